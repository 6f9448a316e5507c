"""Hugging Face folders: config.json and weights as safetensors."""
