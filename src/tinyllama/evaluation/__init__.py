"""Evaluation: held-out bits per byte, tasks of lm-evaluation-harness, and their records."""
