"""Text from a model: sampling, generation with a cache, streaming."""

from tinyllama.inference.generate import generate, generate_batch
from tinyllama.inference.packing import pack
from tinyllama.inference.sampling import Sampling
from tinyllama.inference.text_stream import TextStream, stream_text

__all__ = ["Sampling", "TextStream", "generate", "generate_batch", "pack", "stream_text"]
