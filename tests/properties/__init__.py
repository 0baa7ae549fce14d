"""Tests of this kind."""
