"""The model: a Llama 2 decoder and its loss."""

from tinyllama.model.documents import document_mask
from tinyllama.model.llama import KeyValueCache, Llama
from tinyllama.model.loss import HeadLoss, shifted_exponentials

__all__ = ["HeadLoss", "KeyValueCache", "Llama", "document_mask", "shifted_exponentials"]
