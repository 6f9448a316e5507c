"""Stands in for llama-cpp-python's server: an application that answers every request with what it was asked."""
