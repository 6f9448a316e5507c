"""The process of the playground: loads models when they are first asked for, and answers prompts side by side.

`python -m tinyllama.studio.playground_worker DEVICE` reads orders from stdin and writes replies to stdout, a JSON text
a line (see `playground.py`, which starts it). It ends when stdin does, and so with the studio, however that ends.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from queue import SimpleQueue
from threading import Thread
from typing import TYPE_CHECKING, BinaryIO

from torch import AcceleratorError

from tinyllama.checkpoint.format import MANIFEST
from tinyllama.errors import ModelError, TinyLlamaError
from tinyllama.formats.open import open_model
from tinyllama.inference import Sampling, continue_prompts, pack
from tinyllama.inference.logprobs import score_token
from tinyllama.model.devices import choose_device, free_memory, is_out_of_memory, memory_of, unused_memory
from tinyllama.studio.playground import LIKELIEST, Ask, Order, Reply, ShownToken
from tinyllama.system_memory import available_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator
    from pathlib import Path

    import torch
    from torch import Tensor

    from tinyllama.formats.model_source import OpenModel
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

    Key = tuple[Path, int]

_BYTES = 4
"""Of a weight in fp32, which `tinyllama generate` uses too."""
_USABLE, _KEPT = 0.9, 0.5
"""Shares: of the free memory that a model may fill, and of all memory that models which wait for prompts may hold."""
_NICE = 10
"""Training on this machine goes first."""
_NOT_FINITE = "the model's weights give no finite probabilities; ask an earlier checkpoint"
_logger = logging.getLogger(__name__)


@dataclass
class LoadedModel:
    """A model in memory."""

    model: Llama
    tokenizer: Tokenizer
    bytes: int
    users: int = 0
    """Answers that it writes now."""


class Models:
    """The models in memory: those that are used, and those used last, until others need their room."""

    def __init__(self, device: str) -> None:
        self._asked = device
        self._loaded: dict[Key, LoadedModel] = {}

    @cached_property
    def _device(self) -> torch.device:
        return choose_device(self._asked)

    def __contains__(self, key: Key) -> bool:
        return key in self._loaded

    def make_room(self, source: OpenModel) -> bool:
        """Whether there is room for another model, now that models that nobody uses made some.

        Raises:
            ModelError: there is not, and no model has to be waited for.
            UserError: the device does not exist.
        """
        needed = source.shape.parameters * _BYTES
        while not self._fits(needed):
            unused = next((key for key, loaded in self._loaded.items() if not loaded.users), None)
            if unused is None and self._loaded:
                return False
            if unused is None:
                free = (self._free() or 0) / 2**30
                raise ModelError(
                    f"{source.name}: needs {needed / 2**30:.1f} GiB of memory, and {free:.1f} GiB are free on "
                    f"{self._device}; end other programs there, or start the studio with another --device"
                )
            del self._loaded[unused]
            free_memory(self._device)
        return True

    def load(self, key: Key, source: OpenModel) -> None:
        """Load a model for which there is room.

        Raises:
            ModelError: tensors are missing, of another shape, or not finite.
            CheckpointError: they cannot be read.
        """
        if key in self._loaded:  # another prompt was faster
            return
        model = source.load().to(self._device)
        if not all(bool(weight.isfinite().all()) for weight in model.parameters()):
            raise ModelError(_NOT_FINITE)  # before a GPU draws by them, which would end everybody's answers
        pack(model)
        tokenizer = source.tokenizer()
        if source.checkpoint is not None:
            source.checkpoint.release()
        self._loaded[key] = LoadedModel(model, tokenizer, source.shape.parameters * _BYTES)

    @contextmanager
    def use(self, key: Key) -> Iterator[LoadedModel]:
        """A model that is loaded; it stays so meanwhile."""
        loaded = self._loaded.pop(key)
        self._loaded[key] = loaded  # as the one used last
        loaded.users += 1
        try:
            yield loaded
        finally:
            loaded.users -= 1

    def _fits(self, needed: int) -> bool:
        free, most = self._free(), memory_of(self._device)
        if free is not None and needed > free * _USABLE:
            return False
        held = sum(loaded.bytes for loaded in self._loaded.values())
        return not held or most is None or held + needed <= most * _KEPT

    def _free(self) -> int | None:
        """Bytes of memory that nobody uses; None where they are unknown."""
        unused = unused_memory(self._device)
        return available_memory() if unused is None else unused


class Worker:
    """Writes all answers side by side, a token of each in turn."""

    def __init__(self, models: Models, send: Callable[[Reply], None]) -> None:
        self._models, self._send = models, send
        self._answers: dict[int, Generator[Reply | None]] = {}

    def run(self, orders: SimpleQueue[Order]) -> None:
        """Obey orders forever."""
        while True:
            while not (orders.empty() and self._answers):
                self._obey(orders.get())
            for number in list(self._answers):
                self._advance(number)

    def _obey(self, order: Order) -> None:
        if order.ask is not None:
            self._answers[order.ask.number] = self._answer(order.ask)
        if order.cancel in self._answers:
            self._answers.pop(order.cancel).close()

    def _advance(self, number: int) -> None:
        try:
            reply = next(self._answers[number], None)
        except TinyLlamaError as error:
            reply = Reply(number=number, problem=str(error))
        except Exception as error:
            if isinstance(error, AcceleratorError):  # whatever the device is asked from now on fails as well
                raise
            if is_out_of_memory(error):
                problem = "the memory is full; ask fewer models, or shorter prompts"
            else:
                _logger.exception("an answer failed")
                problem = f"this answer failed ({type(error).__name__}); the studio's terminal has the reason"
            reply = Reply(number=number, problem=problem)
        if reply is not None:
            self._send(reply)
            if reply.is_last:
                del self._answers[number]

    def _answer(self, ask: Ask) -> Generator[Reply | None]:
        """The replies to a prompt; None while it waits for memory."""
        key = ask.checkpoint, _written(ask.checkpoint)
        if key not in self._models:
            source = open_model(ask.checkpoint)
            while not self._models.make_room(source):
                yield None
            self._models.load(key, source)
        with self._models.use(key) as loaded:
            yield from _continue(loaded, ask)


def _continue(loaded: LoadedModel, ask: Ask) -> Iterator[Reply]:
    tokenizer, full = loaded.tokenizer, list[int]()
    tokens: list[ShownToken] = []

    def score(_row: int, new: int, logits: Tensor) -> None:
        if not logits.max().isfinite():
            raise ModelError(_NOT_FINITE)
        scored = score_token(logits.cpu().numpy(), new, LIKELIEST)
        likeliest = [(tokenizer.piece(other), logprob) for other, logprob in scored.top]
        tokens.append(ShownToken(piece=tokenizer.piece(new), logprob=scored.logprob or 0.0, likeliest=likeliest))

    settings = Sampling(ask.temperature, ask.top_k, ask.top_p, ask.repetition_penalty)
    steps = continue_prompts(
        loaded.model, tokenizer, [ask.prompt], settings, max_new_tokens=ask.max_new_tokens, seed=ask.seed,
        on_full=full.append, on_token=score,
    )  # fmt: skip
    written = 0
    for (text,) in steps:
        if text or tokens:
            written += len(tokens)
            yield Reply(number=ask.number, text=text, tokens=list(tokens))
            tokens.clear()
    if full:
        yield Reply(number=ask.number, end="context")
    else:
        yield Reply(number=ask.number, end="length" if written == ask.max_new_tokens else "end")


def _written(checkpoint: Path) -> int:
    """When a checkpoint was written, which tells it from a later one of the same name; 0 if it is not there."""
    with suppress(OSError):
        return (checkpoint / MANIFEST).stat().st_mtime_ns
    return 0


def _read(stdin: BinaryIO, orders: SimpleQueue[Order]) -> None:
    """Receive orders, and end the process with them."""
    for line in stdin:
        orders.put(Order.model_validate_json(line))
    os._exit(0)  # whatever the models are doing


def main() -> None:
    """Run until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the studio ends it
    if hasattr(os, "nice"):
        os.nice(_NICE)
    replies = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what libraries print is no reply

    def send(reply: Reply) -> None:
        replies.write(reply.model_dump_json() + "\n")
        replies.flush()

    orders: SimpleQueue[Order] = SimpleQueue()
    Thread(target=_read, args=(sys.stdin.buffer, orders), daemon=True).start()
    Worker(Models(sys.argv[1]), send).run(orders)


if __name__ == "__main__":
    main()
