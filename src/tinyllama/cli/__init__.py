"""The command line. Everything heavy is imported by the command that needs it."""

from __future__ import annotations

import logging
import os
import sys


def main() -> None:
    """Run `tinyllama`; exit code 2 for a user's mistake, 1 for ours, 130 or 143 after a signal."""
    # They register their commands.
    from tinyllama.cli import (  # noqa: PLC0415
        contamination,  # noqa: F401
        corpora,  # noqa: F401
        evaluation,  # noqa: F401
        generation,  # noqa: F401
        interop,  # noqa: F401
        launch,  # noqa: F401
        rehearse,  # noqa: F401
        serving,  # noqa: F401
    )
    from tinyllama.cli.app import app  # noqa: PLC0415  # importing the package alone must cost nothing
    from tinyllama.errors import TinyLlamaError  # noqa: PLC0415

    logging.basicConfig(format="%(levelname)s: %(message)s", level=logging.WARNING, stream=sys.stderr)
    try:
        app(prog_name="tinyllama")
    except TinyLlamaError as error:
        sys.stderr.write(f"error: {error}\n" if error.exit_code < 128 else f"{error}\n")
        raise SystemExit(error.exit_code) from None
    except KeyboardInterrupt:
        sys.stderr.write("interrupted; the same command goes on\n")
        raise SystemExit(130) from None
    except BrokenPipeError:
        # The reader of our output went away (`| head`): nothing is wrong, and nothing more can be said.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(0) from None
