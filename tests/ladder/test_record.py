import json
from pathlib import Path

import pytest

from tests.ladder.library import JOINT, LAW, made_up
from tinyllama.design.rules import LossFit
from tinyllama.errors import ModelError, NewerFormatError, PlanError
from tinyllama.ladder import read_ladder
from tinyllama.ladder.record import fitted
from tinyllama.record_files import write_record


def test_points_on_a_law_predict_by_it() -> None:
    record = made_up()
    assert record.prediction is not None
    assert record.law is not None
    assert record.prediction.loss == pytest.approx(LAW.loss(record.goal.parameters, record.goal.tokens), rel=1e-6)
    assert record.law.law("found").beta == pytest.approx(LAW.beta, rel=1e-4)
    assert record.prediction.miss is None
    assert record.largest_rung is not None
    assert record.largest_rung.miss == pytest.approx(0, abs=1e-6)


def test_the_miss_is_that_of_the_measured_loss() -> None:
    found = made_up(measured=4.0).prediction
    assert found is not None
    assert found.miss == pytest.approx(found.loss / 4.0 - 1)
    assert found.is_inside is False


def test_three_rungs_have_no_smaller_ones_that_suffice() -> None:
    assert made_up(rungs=3).largest_rung is None


def test_a_branch_that_diverged_is_refused_by_name() -> None:
    record = made_up()
    diverged = record.points[6].model_copy(update={"loss": float("nan")})
    with pytest.raises(PlanError, match="rung-2, length-3: its held-out loss is nan"):
        fitted(record, [*record.points[:6], diverged, *record.points[7:]], None)


@pytest.mark.parametrize("law", [LAW, JOINT], ids=["sum", "joint"])
def test_what_is_written_is_read(tmp_path: Path, law: LossFit) -> None:
    record = made_up(measured=4.0, law=law)
    write_record(tmp_path / "ladder.json", record)
    assert read_ladder(tmp_path / "ladder.json") == record


def test_points_on_a_joint_law_predict_by_it() -> None:
    record = made_up(law=JOINT)
    assert record.prediction is not None
    assert record.law is not None
    assert record.prediction.loss == pytest.approx(JOINT.loss(record.goal.parameters, record.goal.tokens), rel=1e-6)
    assert record.law.is_joint
    assert record.law.formula == "(2e+09 / N^0.95 + 1.5e+10 / D)^0.15"
    assert set(record.law.exponents) == {"alpha", "gamma"}
    added = made_up().law
    assert added is not None
    assert added.formula == "2 + 60 / N^0.4 + 300 / D^0.4"


def test_a_ladder_of_format_1_is_a_sum(tmp_path: Path) -> None:
    content = json.loads(made_up().model_dump_json()) | {"format": 1}
    for key in ("gamma", "gamma_interval", "form_share"):
        del content["law"][key]
    (tmp_path / "ladder.json").write_text(json.dumps(content))
    law = read_ladder(tmp_path / "ladder.json").law
    assert law is not None
    assert not law.is_joint
    assert not law.is_determined  # since the other form was not fitted
    assert law.law("old").loss(1e6, 1e7) == pytest.approx(LAW.loss(1e6, 1e7), rel=1e-3)


def test_a_file_that_is_no_ladder_is_refused_by_name_and_key(tmp_path: Path) -> None:
    path = tmp_path / "ladder.json"
    with pytest.raises(FileNotFoundError):
        read_ladder(path)
    content = json.loads(made_up().model_dump_json())
    path.write_text(json.dumps(content | {"rungs": "four"}))
    with pytest.raises(ModelError, match=r"ladder\.json: rungs: .*move the file away"):
        read_ladder(path)
    path.write_text(json.dumps(content | {"format": 3}))
    with pytest.raises(NewerFormatError):
        read_ladder(path)
