"""Payload schemas: their versions and what is compatible."""
