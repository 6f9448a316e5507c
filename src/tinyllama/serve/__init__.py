"""Serve models over an OpenAI-compatible API."""
