"""Experiments on choices of recipes; their pages are in docs/results."""
