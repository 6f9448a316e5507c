"""Evaluation: held-out bits per byte and the seven commonsense tasks."""
