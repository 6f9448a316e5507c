"""Comparison of models on the questions that all of them answered."""
