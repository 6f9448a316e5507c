"""Mistakes that people make with tools like this one: each test drives the command, and nothing else of the package."""
