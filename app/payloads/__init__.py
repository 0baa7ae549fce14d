"""Payloads: packed, beside their stream when large, and the dictionaries for both."""
