"""What macOS and Windows see of this package: `python -m tests.other_system FOLDER`, for as far as Linux can show it.

In a process for each system, modules of ours find what the system has: libraries know their systems themselves. The
process imports every module, takes locks, and plans, prepares, rehearses and trains a model of two layers.
"""

from __future__ import annotations

import builtins
import gc
import importlib
import json
import os
import pkgutil
import platform
import signal
import sys
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

if TYPE_CHECKING:
    from collections.abc import Iterable

LIBRARIES = ("datasets", "lm_eval.evaluator", "torch._dynamo", "torch.distributed.tensor", "transformers", "typer")
"""Imported before the processes fork, to save time."""
OPTIONAL = {"datatrove", "llama_cpp", "ray", "uvicorn"}
"""Libraries of extras that tests do without."""
MODULES = ("fcntl", "grp", "pty", "pwd", "resource", "termios", "tty")
"""The modules that Windows lacks."""
MAC = (
    "O_TMPFILE", "copy_file_range", "memfd_create", "posix_fadvise", "sched_getaffinity", "sched_setaffinity",
    "setresgid", "setresuid",
)  # fmt: skip
"""What macOS lacks of Linux in `os`."""
WINDOWS = (
    *MAC, "O_CLOEXEC", "O_DIRECTORY", "O_NOFOLLOW", "O_NONBLOCK", "chown", "chroot", "fchmod", "fork", "geteuid",
    "getgid", "getpgid", "getuid", "killpg", "mkfifo", "nice", "posix_spawn", "pread", "pwrite", "register_at_fork",
    "set_blocking", "setsid", "statvfs", "sysconf", "uname",
)  # fmt: skip
"""What Windows lacks of Linux in `os`."""
SIGNALS = ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "SIGUSR1", "SIGUSR2", "pthread_kill", "pthread_sigmask")
"""What Windows lacks in `signal`."""
RECIPE = """
name: two-layers
description: d
license: mit
seed: 1
model: {layers: 2, width: 16, ffn: 32, heads: 2, kv_heads: 1, context: 16, vocab_size: 300}
tokenizer: {train: {vocab_size: 300}}
corpora:
  text: {size: 1K, license: mit, sources: [{files: text.jsonl}], held_out: {share: 10%}}
optimizer: {learning_rate: {peak: 4e-3, minimum: 4e-4, warmup: 64, horizon: 512}}
base: {text: 100%}
stages:
  - {name: base, until: 256, batch: 8 sequences}
  - {name: rest, until: 512, batch: 8 sequences, fork: true}
variants: {same: {text: 100%}}
evaluation: {every: 256, rows: 2}
hardware: {compile: false, micro_batch: 4, threads: 1, local_copies: copies}
checkpoints: {every: 128, keep: 1}
logging: {tensorboard: false}
"""


def see(system: str, folder: Path) -> None:
    """Be the system, and use the package in a folder."""
    windows = system == "win32"
    lacking = dict.fromkeys(MODULES if windows else ())
    lacking["os"] = _without(os, WINDOWS if windows else MAC)
    lacking["signal"] = _without(signal, SIGNALS if windows else ())
    found = builtins.__import__

    def import_(name: str, names: dict[str, Any] | None = None, *rest: Any, **options: Any) -> ModuleType:  # noqa: ANN401
        if name not in lacking or not str((names or {}).get("__name__")).startswith("tinyllama"):
            return found(name, names, *rest, **options)
        if (module := lacking[name]) is None:
            raise ModuleNotFoundError(name=name)
        return module

    builtins.__import__ = import_
    platform.libc_ver = lambda *_args, **_options: ("", "")
    _import_all()
    _check_parts(system, folder)
    lines = [
        json.dumps({"text": f"Line {i} is {i * i % 97} words long, and {i % 13} of them are new.\n" * 3})
        for i in range(200)
    ]
    (folder / "text.jsonl").write_text("\n".join(lines))
    (folder / "recipe.yaml").write_text(RECIPE)
    os.chdir(folder)
    from tinyllama.cli.commands import app

    for command in (["plan"], ["prepare", "--run", "run"], ["rehearse", "--run", "run"], ["train", "--run", "run"]):
        app([command[0], "recipe.yaml", *command[1:]], standalone_mode=False)


def _without(module: ModuleType, names: Iterable[str]) -> ModuleType:
    """A copy of a module that lacks some names."""
    copy = ModuleType(module.__name__)
    vars(copy).update({name: value for name, value in vars(module).items() if name not in names})
    return copy


def _import_all() -> None:
    import tinyllama

    for module in pkgutil.walk_packages(tinyllama.__path__, "tinyllama."):
        try:
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)
        except ModuleNotFoundError as error:
            if error.name not in OPTIONAL:
                raise


def _check_parts(system: str, folder: Path) -> None:
    from tinyllama.evaluation import sandbox
    from tinyllama.locks import locked_folder
    from tinyllama.system_memory import peak_memory

    with locked_folder(folder, shared=True), locked_folder(folder, shared=True):
        assert not _can_lock(folder)
    with locked_folder(folder):
        assert not _can_lock(folder)
        assert not _can_lock(folder, shared=True)
    assert _can_lock(folder)
    assert (peak_memory() is None) == (system == "win32")
    with mock.patch("sys.platform", system):
        assert f"not on {system}" in str(sandbox.unavailable())


def _can_lock(folder: Path, *, shared: bool = False) -> bool:
    from tinyllama.locks import locked_folder

    try:
        with locked_folder(folder, shared=shared):
            return True
    except BlockingIOError:
        return False


if __name__ == "__main__":
    for library in LIBRARIES:
        importlib.import_module(library)
    gc.freeze()  # the collector need not look at the libraries again
    for system in ("darwin", "win32"):
        folder = Path(sys.argv[1], system)
        folder.mkdir()
        if not (child := os.fork()):
            see(system, folder)
            sys.exit()
        if code := os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]):
            sys.exit(f"{system} ended with {code}")
