"""What the API needs of an engine, and the models that a server offers."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    import numpy as np
    from numpy.typing import NDArray

    from tinyllama.serve.guard import Limits
    from tinyllama.tokenizer.base import Tokenizer


class EngineName(StrEnum):
    """What computes the answers."""

    auto = "auto"
    """llama-cpp-python."""
    llama_cpp_python = "llama-cpp-python"
    llama_server = "llama-server"
    vllm = "vllm"


@dataclass(frozen=True)
class ServeOptions:
    """The address that a server listens on, and its limits."""

    limits: Limits
    host: str = "127.0.0.1"
    """Any address other than loopback requires an API key."""
    port: int = 8000
    """0 chooses a free port."""
    engine: EngineName = EngineName.auto
    """What computes the answers; the others are programs of their own."""
    parallel: int = 4
    """Requests that an engine with a program of its own answers at once."""


class Engine(Protocol):
    """A model in memory. It is used from one thread at a time.

    Shapes: V vocabulary.
    """

    name: str
    """Of the software, for messages."""
    ends: frozenset[int]
    """Ids that end an answer."""

    def next_logits(self, ids: Sequence[int]) -> NDArray[np.float32]:
        """Logits [V] of the token after these ids, at most the context."""

    def piece(self, token: int, *, special: bool = False) -> bytes:
        """What a token spells; with `special`, also the name of one that is not text."""

    def encode_special(self, text: str) -> list[int]:
        """Ids of a text in which the spelling of a special token is that token, without BOS."""

    def close(self) -> None:
        """Free its memory."""


@runtime_checkable
class PromptScorer(Protocol):
    """An engine that also gives the logits inside a prompt."""

    def prompt_logits(self, ids: Sequence[int], start: int) -> Iterator[NDArray[np.float32]]:
        """Logits [n, V] after each of `ids[start:]`, in batches of n."""


@dataclass(frozen=True)
class ServedModel:
    """A model that accepts requests; its weights may not be in memory."""

    name: str
    context: int
    vocab_size: int
    tokenizer: Tokenizer
    created: int
    """Unix time of its file."""
    load: Callable[[], Engine]

    @property
    def chats(self) -> bool:
        """Whether it has a chat template."""
        return self.tokenizer.chat_template is not None


class EnginePool:
    """Models by name; one is in memory at a time."""

    def __init__(self, models: Mapping[str, ServedModel]) -> None:
        """Offer these models; the first request loads one."""
        self.models = models
        self._loaded: tuple[str, Engine] | None = None

    def engine(self, name: str) -> Engine:
        """The engine of a model; frees the one before it if another model is in memory."""
        if self._loaded and self._loaded[0] == name:
            return self._loaded[1]
        self.close()
        self._loaded = name, self.models[name].load()
        return self._loaded[1]

    def close(self) -> None:
        """Free the memory of the model that is loaded."""
        if self._loaded:
            self._loaded[1].close()
        self._loaded = None
