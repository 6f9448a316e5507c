"""state.json and manifest.json: typed, with a format number, and readable as 4bd9be0 wrote them."""

import json
from typing import Any

import pytest

from tests.checkpoint.states import made_up_state
from tinyllama.checkpoint.format import parse_manifest
from tinyllama.checkpoint.state import CheckpointState, SpikeState, parse_state
from tinyllama.errors import CheckpointError, NewerFormatError

FULL = {
    "ranks": 2,
    "threads": 1,
    "micro_batch": 4,
    "moments": "kept",
    "moment_steps": -2,
    "skipped": ((1, 3), (7, 7)),
    "spikes": SpikeState(losses=(1.5, 2.25), in_a_row=1, planned=4),
    "origin": "somewhere",
}


@pytest.mark.parametrize("values", [{}, FULL], ids=["least", "full"])
def test_what_is_written_is_read(values: dict[str, Any]) -> None:
    state = made_up_state(9, **values)
    assert parse_state(state.to_json(), "state.json") == state
    assert json.loads(state.to_json())["format"] == CheckpointState.FORMAT


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": None}, r"a/state\.json: tokens: "),
        ({"tokens": "many"}, r"a/state\.json: tokens: .*integer"),
        ({"spikes": {"losses": ["x"], "in_a_row": 0}}, r"a/state\.json: spikes\.losses\.0: .*number"),
        ({"moments": "stale"}, r"a/state\.json: moments: .*'fresh' or 'kept'"),
        ({"format": 3}, r"a/state\.json: format: 3 was written by a later version.*upgrade"),
    ],
    ids=str,
)
def test_a_key_of_the_wrong_type_is_refused_by_file_and_key(change: dict[str, Any], message: str) -> None:
    value = json.loads(made_up_state(9).to_json()) | change
    with pytest.raises((CheckpointError, NewerFormatError), match=message):
        parse_state(json.dumps(value), "a/state.json")


def test_a_missing_key_is_refused_by_file_and_key() -> None:
    value = json.loads(made_up_state(9).to_json())
    del value["fingerprint"]
    with pytest.raises(CheckpointError, match=r"a/state\.json: fingerprint: is missing"):
        parse_state(json.dumps(value), "a/state.json")


@pytest.mark.parametrize("text", ["", "[]", "{"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(CheckpointError, match=r"a/state\.json: is not"):
        parse_state(text, "a/state.json")


def test_a_manifest_is_refused_by_file_and_key() -> None:
    entry = {"bytes": 3, "sha256": "ab"}
    manifest = parse_manifest(json.dumps({"format": 1, "step": 2, "files": {"x": entry}}), "manifest.json")
    assert manifest.files["x"].bytes == 3
    with pytest.raises(CheckpointError, match=r"manifest\.json: files\.x\.sha256: is missing"):
        parse_manifest(json.dumps({"format": 1, "step": 2, "files": {"x": {"bytes": 3}}}), "manifest.json")
    with pytest.raises(NewerFormatError, match=r"manifest\.json: format: 2 was written by a later version"):
        parse_manifest(json.dumps({"format": 2, "step": 2, "files": {}}), "manifest.json")


def test_what_4bd9be0_wrote_is_read_under_todays_names() -> None:
    old = {
        "recipe": "legacy", "run": "base", "step": 13, "tokens": 1664, "fingerprint": "bd", "facts": {"seed": 2},
        "ranks": 1, "threads": 1, "micro_batch": 4, "moment_steps": -1, "left_out": [[13, 13]], "torch": "2.13.0+cpu",
        "spikes": {"losses": [3.5], "in_a_row": 1, "planned": 12},
    }  # fmt: skip
    state = parse_state(json.dumps(old), "state.json")
    assert state.fingerprint_inputs.root == {"seed": 2}
    assert state.skipped == ((13, 13),)
    assert state.torch_version == "2.13.0+cpu"
    assert state.spikes == SpikeState(losses=(3.5,), in_a_row=1, planned=12)
    assert state.has_moments
