"""What torch.compile wants of a C++ compiler, sooner: a first step on a new machine takes 8 s less.

Nothing that is compiled changes.
"""

from __future__ import annotations

import os
import subprocess
from contextlib import suppress
from threading import Thread


def prepare_compiler() -> None:
    """Spare what need not be tried, and begin what would be waited for."""
    if _knows_latest():
        os.environ.setdefault("TORCHINDUCTOR_VEC_ISA_OK", "1")
    from torch._inductor.codecache import CppPythonBindingsCodeCache  # it looks at that when imported

    def make_header() -> None:
        with suppress(Exception):  # that there is no compiler, say, is told where it is needed
            # Makes the precompiled header of all kernels, 5 s; a kernel only where its result is called.
            CppPythonBindingsCodeCache.load_pybinding_async([], "")

    Thread(target=make_header, name="header", daemon=True).start()


def _knows_latest() -> bool:
    """Whether the compiler need not be tried by programs, 6 s of them, for each of the vector instructions.

    One that knows AMX (GCC 11, Clang 11) knows all that torch asks for; of others torch finds it out itself.
    """
    command = [os.environ.get("CXX", "g++"), "-mamx-bf16", "-E", "-x", "c++", os.devnull]
    with suppress(OSError):
        return subprocess.run(command, capture_output=True, check=False).returncode == 0  # torch runs it too
    return False
