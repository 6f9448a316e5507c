"""Messages to a receiver: what it gets, that nothing else learns its URL, and that training never waits for it."""

import logging
import math
import signal
import socket
import time
from functools import partial
from pathlib import Path

import pytest

from tests.conftest import MakeFamily
from tests.train.faults import Fault
from tests.train.processes import train_on
from tests.train.receiver import receiving
from tests.train.stopping import stop_at
from tests.train.test_spikes import SKIP, poison_steps
from tinyllama.errors import RecipeError, TrainingError
from tinyllama.family import Family
from tinyllama.recipe import dump_recipe, load_recipe
from tinyllama.train.alerts import Alert, post, reason_of, receiver
from tinyllama.train.outbox import Outbox
from tinyllama.train.process import read_process

ALERT = Alert(event="failed", family="f", model="base", step=1, tokens=2, loss=None, text="it broke")


def _process(family: Family, model: str = "base") -> tuple[str | None, str]:
    process = read_process(family.layout.process(model))
    assert process is not None
    return process.outcome, process.reason


def test_spikes_stops_and_ends_are_told_and_the_url_stands_nowhere(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch
) -> None:
    with receiving() as server, poison_steps(monkeypatch, {4: math.nan}):
        monkeypatch.setenv("WEBHOOK", server.url)
        family = make_family("family", *SKIP, "logging.notify=$WEBHOOK")
        stop_at(family, "base", 5)
        assert _process(family)[0] == "stopped"
        family.train("base")
    assert _process(family) == ("finished", "")
    assert server.events == [("base", "spike"), ("base", "stopped"), ("base", "finished")]
    assert set(server.paths) == {"/hook/secret-token"}
    spike, _, finished = server.messages
    assert spike == {
        "event": "spike", "family": "nano", "model": "base", "step": 4, "tokens": 4096, "loss": None,
        "text": "nano/base: spike at step 4: step 4 skipped, policy skip",
    }  # fmt: skip
    assert finished["step"] == 6
    for path in family.folder.rglob("*"):
        assert path.is_dir() or not {b"secret-token", b"WEBHOOK"} & {*_found(path, b"secret-token", b"WEBHOOK")}, path


def _found(path: Path, *words: bytes) -> list[bytes]:
    content = path.read_bytes()
    return [word for word in words if word in content]


def test_a_failure_is_told_with_its_reason(make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch) -> None:
    with receiving() as server, poison_steps(monkeypatch, {3: math.nan}):
        family = make_family("family", f"logging.notify={server.url}")
        with pytest.raises(TrainingError, match="not finite"):
            family.train("base")
    assert server.events == [("base", "failed")]
    assert "not finite, stopped before the update" in server.messages[0]["text"]
    assert server.messages[0]["step"] == 2
    outcome, reason = _process(family)
    assert outcome == "failed"
    assert "not finite" in reason


def test_a_lost_rank_is_told_by_rank_0_alone(make_family: MakeFamily) -> None:
    family = make_family()
    lose = Fault("step", 3, after=False, rank=1, number=signal.SIGKILL)
    with receiving() as server:
        codes = train_on(family.folder, 2, 2, [f"logging.notify={server.url}"], in_rank={1: lose.plant})
    assert codes == [1, -signal.SIGKILL]
    assert server.events == [("base", "failed")]
    assert "lost rank 1" in server.messages[0]["text"]
    assert "lost rank 1" in _process(family)[1]


def test_a_receiver_that_is_down_is_one_warning_and_changes_nothing(
    make_family: MakeFamily, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    with socket.socket() as taken, poison_steps(monkeypatch, {3: math.nan, 4: math.nan}):
        taken.bind(("127.0.0.1", 0))  # and nobody listens
        url = f"http://127.0.0.1:{taken.getsockname()[1]}/secret-token"
        family = make_family("family", *SKIP, f"logging.notify={url}")
        family.train("base")
    warnings = [record.getMessage() for record in caplog.records if record.levelno >= logging.WARNING]
    assert warnings == ["logging.notify: does not get everything (Connection refused); training continues"]
    assert _process(family)[0] == "finished"


def test_a_receiver_that_hangs_delays_the_end_by_its_deadline_alone(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(seconds=8) as server:
        outbox = Outbox("logging.notify", reason_of)
        began = time.monotonic()
        for _ in range(100):
            outbox.put(partial(post, server.url, ALERT))
        outbox.close(0.2)
        assert time.monotonic() - began < 6
    assert [record.getMessage() for record in caplog.records] == [
        "logging.notify: does not get everything (no answer in 0.2 s); training continues"
    ]


@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_a_refusal_is_named_by_its_status_and_no_redirect_is_followed(status: int) -> None:
    with receiving(status) as server:
        with pytest.raises(OSError, match=str(status)) as refused:
            post(server.url, ALERT)
        assert reason_of(refused.value) == f"HTTP status {status}"
    assert server.paths == ["/hook/secret-token"]


def test_later_messages_are_tried_after_one_that_failed(caplog: pytest.LogCaptureFixture) -> None:
    with receiving(500) as server:
        outbox = Outbox("logging.notify", reason_of)
        for _ in range(3):
            outbox.put(partial(post, server.url, ALERT))
        outbox.close(10)
    assert len(server.messages) == 3
    assert len(caplog.records) == 1


def test_errors_about_the_url_do_not_show_it(monkeypatch: pytest.MonkeyPatch) -> None:
    for wrong in ("ftp://host/secret-token", "secret-token", "https://host/secret token"):
        with pytest.raises(RecipeError, match=r"logging\.notify: is no URL of a receiver") as refused:
            load_recipe("nano", [f"logging.notify={wrong}"])
        assert "secret" not in str(refused.value)
    with pytest.raises(TrainingError, match=r"logging\.notify: \$NO_SUCH is not set"):
        receiver("$NO_SUCH/secret-token")
    monkeypatch.setenv("WEBHOOK", "secret-token")
    with pytest.raises(TrainingError, match="its variable holds no URL") as refused_value:
        receiver("$WEBHOOK")
    assert "secret" not in str(refused_value.value)
    assert "host" not in reason_of(ValueError("unknown url type: https://host/secret-token"))


def test_no_text_of_a_recipe_holds_the_url() -> None:
    recipe = load_recipe("nano", ["logging.notify=https://host/secret-token"])
    assert recipe.logging.notify == "https://host/secret-token"
    assert "secret" not in dump_recipe(recipe) + repr(recipe) + str(recipe.in_precision("fp32"))


def test_a_variable_that_is_not_set_is_found_before_training(make_family: MakeFamily) -> None:
    family = make_family("family", "logging.notify=$NO_SUCH_WEBHOOK")
    (check,) = [result for result in family.check({"train"}) if result.name == "notifications"]
    assert check.faults == ["logging.notify: $NO_SUCH_WEBHOOK is not set; set the variable, or remove the key"]
    (check,) = [result for result in family.check({"train"}, here=False) if result.name == "notifications"]
    assert check.notes
    assert not check.faults
