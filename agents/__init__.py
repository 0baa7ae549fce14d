"""The pipeline, one file a stage: dedupe, check, route, commit, deliver, audit; daily is a timer.

A new file is a new stage; nothing else is edited.
"""
