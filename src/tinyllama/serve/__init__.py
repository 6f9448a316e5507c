"""Serving models over an API compatible with OpenAI's."""
