"""Hostile traffic beside honest traffic: what anybody who may post, or has a key, can try."""
