import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from benchmarks.runner import (
    Chart,
    Claim,
    Engine,
    Measured,
    Process,
    Result,
    Table,
    in_turns,
    loss_differences,
    publish,
    ratio,
)
from benchmarks.runner.chart import draw

ROOT = Path(__file__).parent.parent.parent
STEPS = """
import json, os, sys, time
with open(sys.argv[1], "w", buffering=1) as file:
    for step in range(1, 10_000):
        time.sleep(float(sys.argv[2]))
        file.write(json.dumps({"step": step, "loss": 1 / step, "seen": os.environ.get("SEEN")}) + "\\n")
        file.write(json.dumps({"kind": "held_out", "step": step}) + "\\n")
"""


def engine(folder: Path, name: str, seconds: float, **keys: object) -> Engine:
    """A process that sleeps for its steps."""
    own = folder / name
    own.mkdir()
    command = [sys.executable, "-c", STEPS, str(own / "records.jsonl"), str(seconds)]
    return Engine(name, command, own, own / "records.jsonl", **keys)  # type: ignore[arg-type]


def measured(seconds: list[float], losses: list[float] | None = None) -> Measured:
    return Measured(seconds, 1.0, 1 << 30, [{"loss": loss} for loss in losses or []])


def test_a_step_is_timed_by_the_time_that_its_engine_runs(tmp_path: Path) -> None:
    with Process(engine(tmp_path, "sleeper", 0.05)) as process:
        process.run_to(2, timeout=20)
        before = len(process.records)
        time.sleep(2.0)
        assert process.turn(0.0, timeout=20) < 1.5, "a pause counts as running"
        assert len(process.records) > before
        assert {record.get("kind") for record in process.records} == {None}


def test_nothing_runs_while_it_is_paused(tmp_path: Path) -> None:
    with Process(engine(tmp_path, "sleeper", 0.01)) as process:
        process.run_to(1, timeout=20)
        while ") T " not in Path(f"/proc/{process.pid}/stat").read_text():  # its last write may go on until then
            time.sleep(0.01)
        size = process.engine.records.stat().st_size
        time.sleep(0.2)
        assert process.engine.records.stat().st_size == size


def test_a_suspended_engine_ends_with_the_benchmark_however_that_ends(tmp_path: Path) -> None:
    program = (
        "import os, sys\nfrom pathlib import Path\nfrom benchmarks.runner import Engine, Process\n"
        "folder = Path(sys.argv[1])\n"
        "records = folder / 'records'\ncommand = [sys.executable, '-c', sys.argv[2], str(records), '0.01']\n"
        "engine = Engine('sleeper', command, folder, records)\n"
        "process = Process(engine)\nprocess.run_to(1, timeout=20)\nprint(process.pid, flush=True)\nos._exit(9)\n"
    )
    command = [sys.executable, "-c", program, str(tmp_path), STEPS]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    state = Path("/proc") / str(int(done.stdout)) / "stat"
    for _ in range(100):
        if not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z":
            return
        time.sleep(0.1)
    pytest.fail("the engine stayed")


def test_engines_take_turns_and_one_that_dies_is_left_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    dead = Engine("dead", [sys.executable, "-c", "raise SystemExit('no such thing')"], tmp_path, tmp_path / "none")
    engines = [engine(tmp_path, "fast", 0.01), dead, engine(tmp_path, "slow", 0.2)]
    found = in_turns(engines, warmup=2, rounds=3, seconds=0.1, timeout=20)
    assert list(found) == ["fast", "slow"]
    assert all(len(one.seconds) == 3 and one.memory > 1 << 20 for one in found.values())
    times = ratio(found, "fast", "slow")
    assert times is not None
    assert times > 1.5
    assert "no such thing" in capsys.readouterr().err


def test_a_tuned_engine_gets_the_environment_that_another_has(tmp_path: Path) -> None:
    engines = [
        engine(tmp_path, "ours", 0.01, environment={"SEEN": "here"}),
        engine(tmp_path, "other", 0.01),
        engine(tmp_path, "tuned", 0.01, tuned_as="ours"),
    ]
    found = in_turns(engines, warmup=1, rounds=1, seconds=0.0, timeout=20)
    assert [one.records[0]["seen"] for one in found.values()] == ["here", None, "here"]


def test_figures_are_medians_and_ratios_of_medians() -> None:
    found = {"ours": measured([1.0, 2.0, 30.0]), "theirs": measured([5.0, 6.0, 7.0])}
    assert ratio(found, "ours", "theirs") == pytest.approx(3.0)
    assert ratio(found, "ours", "absent") is None
    assert found["ours"].as_dict(tokens=100)["tokens_per_second"] == pytest.approx(50.0)


def test_losses_are_compared_over_the_first_steps() -> None:
    found = {"ours": measured([1.0], [5.0, 4.0, 9.9]), "theirs": measured([1.0], [5.0, 4.01])}
    assert loss_differences(found, "theirs", {"ours": 2, "absent": 1}) == {"ours": pytest.approx(0.01)}


def test_losses_that_are_not_numbers_never_count_as_equal() -> None:
    found = {"ours": measured([1.0], [5.0, float("nan")]), "theirs": measured([1.0], [5.0, 4.0])}
    difference = loss_differences(found, "theirs", {"ours": 2})["ours"]
    assert not Claim("same", difference, most=0.02).holds


def test_a_claim_says_whether_it_holds() -> None:
    assert Claim("fast", 4.2, least=4.0).row() == ["fast", "4.2", "at least 4", "yes"]
    assert Claim("small", 0.6, most=0.5, unit="%").row() == ["small", "0.6%", "at most 0.5%", "**no**"]


def test_a_result_is_published_as_json_markdown_and_a_chart(tmp_path: Path) -> None:
    chart = Chart("shape", "tokens/s", [("tinyllama train", 900.0), ("other <x>", 300.0)], 1000.0, "peak:")
    table = Table(["engine", "tokens/s"], [["ours", "900"]])
    result = Result("speed", "Speed", "How.", [table], [Claim("fast", 3, least=2)], [chart], {"raw": [1, 2]})
    publish(result, tmp_path)
    document = json.loads((tmp_path / "speed.json").read_text())
    assert document["raw"] == [1, 2]
    assert document["claims"][0]["holds"] is True
    text = (tmp_path / "speed.md").read_text()
    assert "| ours | 900 |" in text
    assert "| fast | 3 | at least 2 | yes |" in text
    assert "benchmarks/speed.svg" in text
    assert "other &lt;x&gt;" in (tmp_path / "speed.svg").read_text()


def test_bars_and_limit_share_one_scale() -> None:
    svg = draw([Chart("shape", "tokens/s", [("a", 500.0), ("b", 250.0)], 1000.0, "peak:")])
    widths = [float(part.split('"')[0]) for part in svg.split('width="')[2:]]
    assert widths[0] == pytest.approx(2 * widths[1])
