"""The model: a Llama 2 decoder and its loss."""

from tinyllama.model.llama import KeyValueCache, Llama, document_mask
from tinyllama.model.loss import head_loss, softmax_gradient

__all__ = ["KeyValueCache", "Llama", "document_mask", "head_loss", "softmax_gradient"]
