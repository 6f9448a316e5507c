"""Text from a model: one decode loop with a cache, one sampler, streamed text with stop strings."""

from tinyllama.inference.decode import decode_batch
from tinyllama.inference.packing import pack
from tinyllama.inference.sampling import CARD_SAMPLING, Sampling
from tinyllama.inference.text import continue_prompts, default_sampling
from tinyllama.inference.text_stream import stream_batch

__all__ = ["CARD_SAMPLING", "Sampling", "continue_prompts", "decode_batch", "default_sampling", "pack", "stream_batch"]
