"""The command line. Each command imports its heavy dependencies when it runs."""

from __future__ import annotations

import errno
import logging
import os
import sys


def main() -> None:
    """Run `tinyllama`; exit code 2 for a user error, 1 for an internal error, 130 or 143 after a signal."""
    from tinyllama.cli.commands import app  # deferred, so that importing the package stays cheap
    from tinyllama.errors import TinyLlamaError

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        try:
            app(prog_name="tinyllama")
        except SystemExit:
            sys.stdout.flush()  # here, since Python reports an error in its own flush as a traceback
            raise
    except TinyLlamaError as error:
        sys.stderr.write(f"Error: {error}\n" if error.exit_code < 128 else f"{error}\n")
        raise SystemExit(error.exit_code) from None
    except OSError as error:
        if error.errno not in {errno.EPIPE, errno.ENOSPC}:
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what is still in the buffer
        if error.errno == errno.EPIPE:  # the reader of stdout has closed the pipe (`| head`)
            raise SystemExit(1) from None
        where = error.filename or "stdout or a file being written"
        sys.stderr.write(f"Error: {where}: no space left on the device; free space and run the same command again\n")
        raise SystemExit(2) from None
