"""Text from a model: sampling, generation with a cache, streaming."""

from tinyllama.generate.generate import generate
from tinyllama.generate.sampling import Sampling
from tinyllama.generate.text import stream_text

__all__ = ["Sampling", "generate", "stream_text"]
