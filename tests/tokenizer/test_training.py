import os
import signal

import pytest

from tinyllama.tokenizer import training


class _Interrupts(dict[int, str]):
    """A table whose first use is interrupted by Ctrl-C."""

    def __getitem__(self, _character: int) -> str:
        os.kill(os.getpid(), signal.SIGINT)
        raise LookupError


def test_ctrl_c_while_the_library_reads_lines_is_no_error_of_the_text(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(training, "_rare_characters", lambda _lines, _most: _Interrupts())
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored
    try:
        with pytest.raises(KeyboardInterrupt):
            training.train_model(["The river runs to the sea.\n" * 50], 300)
    finally:
        signal.signal(signal.SIGINT, before)
