"""Text from a model: one decode loop with a cache, one sampler, streamed text with stop strings."""

from tinyllama.inference.decode import decode, decode_batch
from tinyllama.inference.packing import pack
from tinyllama.inference.sampling import GREEDY, Sampling
from tinyllama.inference.text import continue_prompts, generate
from tinyllama.inference.text_stream import TextStream, stream_batch, stream_text

__all__ = [
    "GREEDY",
    "Sampling",
    "TextStream",
    "continue_prompts",
    "decode",
    "decode_batch",
    "generate",
    "pack",
    "stream_batch",
    "stream_text",
]
