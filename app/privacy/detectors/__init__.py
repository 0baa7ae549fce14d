"""Detectors of personal data and secrets, one file a family."""
