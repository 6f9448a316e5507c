"""Checkpoints: their format, where they are stored, and the fingerprint that decides whether one fits a recipe."""
