"""The playground: prompts to models of a family, answered by one other process.

That process starts with the first prompt. It ends with the studio, or when nobody has asked for a while, so that the
studio's own process holds neither torch nor models. The two speak JSON texts, a line each, over pipes.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from asyncio.subprocess import PIPE
from contextlib import aclosing, suppress
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from tinyllama.checkpoint.format import steps_saved
from tinyllama.errors import TinyLlamaError, UserError

if TYPE_CHECKING:
    from asyncio.subprocess import Process
    from collections.abc import AsyncGenerator, Mapping

    from tinyllama.studio.families import StudioFamily

LIKELIEST = 5
"""Most likely tokens that are shown for each place."""
_WORKER = "tinyllama.studio.playground_worker"
_IDLE = 600.0
"""Seconds without a prompt after which the process ends, and its memory is free."""
_TOGETHER = 4
"""Prompts that are answered at once; others wait."""
_LONGEST_LINE = 1 << 22
_logger = logging.getLogger(__name__)


class Prompt(BaseModel):
    """A text to continue, and how tokens are chosen: see `Sampling`, whose names and defaults these are."""

    model_config = ConfigDict(extra="forbid")

    prompt: str
    temperature: Annotated[float, Field(ge=0, allow_inf_nan=False)] = 1.0
    top_k: Annotated[int, Field(ge=0, le=2**31 - 1)] = 0
    top_p: Annotated[float, Field(gt=0, le=1)] = 1.0
    repetition_penalty: Annotated[float, Field(ge=0.01, le=100)] = 1.0
    max_new_tokens: Annotated[int, Field(ge=1, le=2**31 - 1)] = 100
    """Of each answer, at most."""
    seed: Annotated[int, Field(ge=-(2**63), le=2**64 - 1)] = 0


class Question(Prompt):
    """A prompt to some models."""

    models: Annotated[dict[str, int], Field(min_length=1, max_length=64)]
    """Model → step of its checkpoint."""


class Ask(Prompt):
    """A prompt to one model."""

    number: int
    """By which its replies name it."""
    checkpoint: Path


class Order(BaseModel):
    """What the studio sends: a prompt to answer, or one whose answer nobody waits for any more."""

    ask: Ask | None = None
    cancel: int | None = None


class ShownToken(BaseModel):
    """A token of an answer, by the model's own logits: temperature and the like do not change them."""

    piece: str
    """How the vocabulary spells it."""
    logprob: float
    """In nats."""
    likeliest: list[tuple[str, float]]
    """The most likely tokens of its place with their log-probabilities, most likely first."""


class Reply(BaseModel):
    """What one step adds to the answer to one prompt; the last one has an end or a problem."""

    number: int
    text: str = ""
    tokens: list[ShownToken] = []
    """Those that the text ends with: several where they spell one character; none for text that was held back."""
    end: Literal["", "end", "length", "context"] = ""
    """Why the answer ended: the model ended it, it has as many tokens as allowed, or it fills the context."""
    problem: str = ""
    """Why there is no more of it."""

    @property
    def is_last(self) -> bool:
        """Whether no other follows."""
        return bool(self.end or self.problem)


def checkpoints_of(family: StudioFamily, models: Mapping[str, int]) -> dict[str, Path]:
    """Model → folder of its checkpoint at a step.

    Raises:
        UserError: the family has no such model, or the model no such checkpoint.
    """
    found = {}
    for model, step in models.items():
        folder = family.layout.checkpoints(model)
        if model not in family.recipe.models or step not in steps_saved(folder):
            raise UserError(f"{model} has no checkpoint at step {step} on this machine; it may have been deleted")
        found[model] = folder / f"step-{step}"
    return found


class Playground:
    """Answers prompts through a process that it starts and ends."""

    def __init__(self, device: str = "cpu", idle: float = _IDLE) -> None:
        """Choose the device of the models, and after how many seconds without a prompt their process ends."""
        self._device, self._idle = device, idle
        self._worker: _Worker | None = None
        self._starting, self._places = asyncio.Lock(), asyncio.Semaphore(_TOGETHER)
        self._numbers, self._open = count(1), 0
        self._timer: asyncio.TimerHandle | None = None

    async def answers(self, question: Question, checkpoints: Mapping[str, Path]) -> AsyncGenerator[tuple[str, Reply]]:
        """What each model adds to its answer, as it comes; models that nobody listens to any more stop.

        Args:
            question: the prompt; its models are those of `checkpoints`.
            checkpoints: model → folder.

        Raises:
            TinyLlamaError: the process was killed or failed.
        """
        prompt = question.model_dump(exclude={"models"})
        self._open += 1
        try:
            async with self._places:
                worker = await self._running()
                models = {next(self._numbers): model for model in checkpoints}
                asks = [Ask(number=number, checkpoint=checkpoints[model], **prompt) for number, model in models.items()]
                async with aclosing(worker.answers(asks)) as replies:
                    async for reply in replies:
                        yield models[reply.number], reply
        finally:
            self._open -= 1
            self._end_later()

    @property
    def ended(self) -> bool:
        """Whether the process has ended, or none was needed yet."""
        return self._worker is None or self._worker.ended

    async def close(self) -> None:
        """End the process."""
        if self._timer is not None:
            self._timer.cancel()
        if self._worker is not None:
            await self._worker.end()

    async def _running(self) -> _Worker:
        async with self._starting:
            if self._worker is None or self._worker.ended:
                self._worker = await _Worker.start(self._device)
            return self._worker

    def _end_later(self) -> None:
        """End the process unless a prompt comes before."""
        if self._timer is not None:
            self._timer.cancel()
        self._timer = asyncio.get_running_loop().call_later(self._idle, self._end_idle)

    def _end_idle(self) -> None:
        if self._worker is not None and not self._open:
            self._worker.kill()


class _Worker:
    """The process, once it was started."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._waiting: dict[int, asyncio.Queue[Reply | None]] = {}
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, device: str) -> _Worker:
        """Start it in a session of its own, since Ctrl-C is the studio's to answer."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", _WORKER, device,  # -P: not a random.py of the folder where the studio started
            stdin=PIPE, stdout=PIPE, limit=_LONGEST_LINE, start_new_session=True,
        )  # fmt: skip
        return cls(process)

    @property
    def ended(self) -> bool:
        """Whether it has ended, however that was."""
        return self._reading.done()

    def kill(self) -> None:
        """End it at once; it has nothing to save."""
        with suppress(ProcessLookupError):
            self._process.kill()

    async def end(self) -> None:
        """End it, and wait until it has."""
        self.kill()
        await self._reading

    async def answers(self, asks: list[Ask]) -> AsyncGenerator[Reply]:
        """The replies to several prompts until all have their last.

        Raises:
            TinyLlamaError: the process ended before.
        """
        replies: asyncio.Queue[Reply | None] = asyncio.Queue()
        open_numbers = {ask.number for ask in asks}
        self._waiting |= dict.fromkeys(open_numbers, replies)
        try:
            for ask in asks:
                self._send(Order(ask=ask))
            while open_numbers:
                reply = await replies.get()
                if reply is None:
                    raise TinyLlamaError(
                        "the playground's process was killed, maybe because the memory is full, or failed, and the "
                        "studio's terminal has the reason; the next prompt starts it again"
                    )
                if reply.is_last:
                    open_numbers.discard(reply.number)
                yield reply
        finally:
            for ask in asks:
                del self._waiting[ask.number]
            for number in open_numbers:
                self._send(Order(cancel=number))

    def _send(self, order: Order) -> None:
        if self._process.stdin is not None and not self.ended:
            self._process.stdin.write(order.model_dump_json(exclude_none=True).encode() + b"\n")

    async def _read(self) -> None:
        try:
            if self._process.stdout is not None:
                async for line in self._process.stdout:
                    reply = Reply.model_validate_json(line)
                    if reply.number in self._waiting:
                        self._waiting[reply.number].put_nowait(reply)
        except ValueError:  # also of a line that is too long
            _logger.exception("the playground's process wrote what is no reply")
        finally:
            self.kill()
            await self._process.communicate()  # as wait, which never ends while much is left to read
            for replies in self._waiting.values():
                replies.put_nowait(None)
