"""Text from a model: one decode loop with a cache, one sampler, streamed text with stop strings."""

from tinyllama.inference.conversation import Conversation, Ending, require_chat_template
from tinyllama.inference.decode import decode_batch
from tinyllama.inference.packing import pack
from tinyllama.inference.sampling import CARD_SAMPLING, Sampling
from tinyllama.inference.text import continue_prompts, default_sampling, without_words
from tinyllama.inference.text_stream import stream_batch

__all__ = [
    "CARD_SAMPLING",
    "Conversation",
    "Ending",
    "Sampling",
    "continue_prompts",
    "decode_batch",
    "default_sampling",
    "pack",
    "require_chat_template",
    "stream_batch",
    "without_words",
]
