"""`lm_eval --model local-completions` against `tinyllama serve` gives our own scores: `make test-llamacpp`."""

from __future__ import annotations

import json
import shutil
from typing import TYPE_CHECKING

import pytest

from tests.cli.test_serving import serving
from tests.evaluation.conftest import write_rows
from tests.evaluation.lm_eval_alone import ServedModel, ask_server
from tinyllama.evaluation.catalogue import CATALOGUE
from tinyllama.evaluation.published import TASKS
from tinyllama.evaluation.tasks import evaluate_tasks
from tinyllama.export import convert_to_gguf
from tinyllama.formats.open import open_model

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tinyllama.evaluation.answers import Answer

pytestmark = pytest.mark.slow
CONTEXT = 192
"""Longer than every row, so that none is cut: the API's limit is one token shorter than ours."""
NAMES = [task.name for task in TASKS]


@pytest.fixture(scope="module")
def long_context(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The small Llama with a longer context; its positions are rotary, so no weight changes."""
    made = tmp_path_factory.mktemp("long") / "long"
    shutil.copytree(folder, made)
    config = json.loads((made / "config.json").read_text())
    (made / "config.json").write_text(json.dumps(config | {"max_position_embeddings": CONTEXT}))
    return made


@pytest.fixture(scope="module")
def served(long_context: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedModel]:
    """A server of the model in F32 and in F16."""
    pytest.importorskip("llama_cpp", reason="make test-llamacpp builds it")
    pytest.importorskip("tenacity", reason="make test-llamacpp installs it")
    scratch = tmp_path_factory.mktemp("gguf")
    files = []
    for kind in ("F32", "F16"):
        convert_to_gguf(open_model(str(long_context)), scratch / kind, kind)
        files.append(next((scratch / kind).glob("*.gguf")).rename(scratch / f"{kind}.gguf"))
    with serving(*files) as address:
        yield ServedModel(address, "", long_context, CONTEXT)


@pytest.fixture(scope="module")
def ours(long_context: Path, data: Path) -> list[Answer]:
    """What `tinyllama evaluate` records."""
    source = open_model(str(long_context))
    answers = evaluate_tasks(source.load(), source.tokenizer(), NAMES, data).answers
    return [answer for name in NAMES for answer in answers[name]]


@pytest.mark.parametrize(("kind", "nats"), [("F32", 1e-3), ("F16", 0.2)])
def test_every_request_is_scored_as_evaluate_scores_it(
    kind: str, nats: float, served: ServedModel, ours: list[Answer], tmp_path: Path
) -> None:
    theirs = ask_server(served._replace(name=kind), write_rows(tmp_path), NAMES, tmp_path)
    expected = {(answer.task, answer.question): answer for answer in theirs}
    assert len(ours) == len(expected) > 0
    differences = []
    for answer in ours:
        other, metric = expected[answer.task, answer.question], CATALOGUE[answer.task].metric
        assert answer.requests == other.requests
        for mine, their in zip(answer.responses, other.responses, strict=True):
            differences.append(abs(mine[0] - their[0]))
            assert kind != "F32" or mine[1] == their[1]
        assert kind != "F32" or answer.scores[metric] == other.scores[metric]
    print(f"{kind}: at most {max(differences):.2g} nats over {len(differences)} requests")  # noqa: T201  # with -s
    assert max(differences) < nats
