"""Tests, by kind: unit, integration, chaos, browser; they mirror the folders."""
