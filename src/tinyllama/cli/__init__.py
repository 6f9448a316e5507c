"""The command line. Each command imports its heavy dependencies when it runs."""

from __future__ import annotations

import logging
import os
import sys


def main() -> None:
    """Run `tinyllama`; exit code 2 for a user error, 1 for an internal error, 130 or 143 after a signal."""
    from tinyllama.cli.commands import app  # deferred, so that importing the package stays cheap
    from tinyllama.errors import TinyLlamaError

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        app(prog_name="tinyllama")
    except TinyLlamaError as error:
        sys.stderr.write(f"error: {error}\n" if error.exit_code < 128 else f"{error}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command resumes\n")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of stdout has closed the pipe (`| head`): not an error, but no more output is possible.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
