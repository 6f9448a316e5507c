"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import logging
import os
import sys


def main() -> None:
    """Run `tinyllama`; exit code 2 for a user's mistake, 1 for ours, 130 or 143 after a signal."""
    from tinyllama.cli.commands import app  # importing the package alone must cost nothing
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
        # The reader of our output is gone (`| head`): nothing is wrong, and nothing more can be shown.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
