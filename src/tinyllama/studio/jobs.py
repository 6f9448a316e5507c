"""Work in a process of its own, which ends with the request that asked for it.

Plans, samplers and searches take memory, seconds and, for some recipes, torch: none of it stays in the studio's own
process. Where the system can, processes are forked from one that has imported what they need, so that they start at
once.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from tinyllama.errors import TinyLlamaError, UserError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from multiprocessing.connection import Connection

    from tinyllama.files import Json

    Message = dict[str, Json]

_FORKS = "forkserver" in multiprocessing.get_all_start_methods()
_CONTEXT: Any = multiprocessing.get_context("forkserver" if _FORKS else "spawn")
_PAUSE = 0.1
"""Seconds after which a job whose request ended is ended."""
_NICE = 10
_MESSAGE, _ERROR, _END = range(3)


def warm_up() -> None:
    """Start the process that the others are forked from, if there is one."""
    if _FORKS:
        from multiprocessing import forkserver

        _CONTEXT.set_forkserver_preload(["tinyllama.studio.work"])
        forkserver.ensure_running()


async def messages(
    work: Callable[..., None], *arguments: object, seconds: float | None = None
) -> AsyncGenerator[Message]:
    """What a function sends with its first argument, in another process that ends when nobody listens.

    While nothing is sent, empty messages come.

    Args:
        work: the function; of a module, so that the process finds it.
        arguments: those that follow.
        seconds: the process is ended after so long.

    Raises:
        UserError: the function raised one, or took too long.
        TinyLlamaError: the process failed; its traceback is on the terminal.
    """
    receiver, sender = _CONTEXT.Pipe(duplex=False)
    process = _CONTEXT.Process(target=_run, args=(sender, work, arguments), daemon=True)
    await run_in_threadpool(process.start)
    sender.close()
    waited = 0.0
    try:
        while True:
            if not await run_in_threadpool(receiver.poll, _PAUSE):
                waited += _PAUSE
                if seconds is not None and waited > seconds:
                    raise UserError(f"this takes more than {seconds:g} seconds; use the command line")
                yield {}  # so that the caller can end it
                continue
            try:
                kind, value = receiver.recv()
            except EOFError:
                break
            if kind == _ERROR:
                raise UserError(value)
            if kind == _END:
                return
            yield value
        raise TinyLlamaError("a process of the studio was killed, or failed; its terminal has the reason")
    finally:
        process.terminate()
        receiver.close()
        await run_in_threadpool(process.join)


async def result(
    gone: Callable[[], Awaitable[bool]], work: Callable[..., None], *arguments: object, seconds: float
) -> Message:
    """The one message that a function sends; empty if nobody waits for it any more.

    Args:
        gone: whether that is so.
        work: see `messages`, as for what follows and the errors.
        arguments: of the function.
        seconds: after which its process is ended.
    """
    found: Message = {}
    async with aclosing(messages(work, *arguments, seconds=seconds)) as sent:
        async for message in sent:
            found = message or found
            if await gone():
                break
    return found


def _run(sender: Connection, work: Callable[..., None], arguments: tuple[object, ...]) -> None:
    """The process: sends messages, then how it ended. What trains beside it comes first."""
    if hasattr(os, "nice"):
        os.nice(_NICE)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the studio ends it
    with suppress(BrokenPipeError, ConnectionResetError):
        try:
            work(lambda message: sender.send((_MESSAGE, message)), *arguments)
            sender.send((_END, None))
        except TinyLlamaError as error:
            sender.send((_ERROR, str(error)))
