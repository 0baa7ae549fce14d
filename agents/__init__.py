"""The pipeline, one file a stage: dedupe, route, commit, deliver, audit.

A new file is a new stage; nothing else is edited.
"""
