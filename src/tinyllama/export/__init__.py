"""A model as a complete Hugging Face folder, checked against transformers before it is there."""

from tinyllama.export.card import model_card, quick_start
from tinyllama.export.folder import export_model
from tinyllama.export.parity import ParityResult

__all__ = ["ParityResult", "export_model", "model_card", "quick_start"]
