"""Text from a model: sampling, generation with a cache, streaming."""

from tinyllama.generate.generate import generate, generate_batch
from tinyllama.generate.packing import pack
from tinyllama.generate.sampling import Sampling
from tinyllama.generate.text import TextStream, stream_text

__all__ = ["Sampling", "TextStream", "generate", "generate_batch", "pack", "stream_text"]
