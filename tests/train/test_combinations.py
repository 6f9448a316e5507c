"""What can be combined trains what one plain process trains: each pair of values in some case, on ranks of gloo.

Four processes run all cases, those of two ranks side by side. Compiled blocks are traced but not turned into kernels,
which takes long.
"""

import itertools
import json
import os
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.train.processes import CONTEXT, free_port
from tinyllama.corpus.manifest import Separator
from tinyllama.model.documents import Documents
from tinyllama.recipe import Recipe, load_recipe
from tinyllama.train import training_state
from tinyllama.train.feeder import StepBatch
from tinyllama.train.forward_backward import Gradients
from tinyllama.train.optimizer import clip, gradient_norm
from tinyllama.train.parallel import whole
from tinyllama.train.ranks import Ranks, join_ranks
from tinyllama.train.training_state import TrainingState

pytestmark = pytest.mark.slow
PASS, ROWS, STEPS = 2, 16, 2
SHAPE = ("model.layers=3", "model.context=32", f"hardware.micro_batch={PASS}")


FIELDS = (
    ("adamw", "muon"),
    ("fp32", "bf16", "fp8"),
    ("node", "all", "none", "hybrid"),
    ("", "checkpointed"),
    ("", "compiled"),
    ("", "documents"),
    ("", "gathered"),
)
"""Values that exclude each other. `hybrid` is two replicas of two shards on four ranks; the others have two ranks."""
CASES = (
    "adamw bf16 hybrid compiled",
    "adamw fp32 none checkpointed documents gathered",
    "muon fp8 all checkpointed compiled gathered",
    "muon fp32 node documents",
    "muon bf16 all documents gathered",
    "adamw fp8 node checkpointed compiled documents",
    "muon fp8 none",
    "muon fp8 hybrid checkpointed gathered",
    "adamw fp32 all compiled",
    "muon bf16 none checkpointed compiled",
    "muon bf16 node compiled gathered",
    "adamw fp32 hybrid checkpointed compiled documents",
)


def _values(case: str) -> list[str]:
    """A case's value of each field."""
    words = case.split()
    return [next(value for value in reversed(values) if value in {"", *words}) for values in FIELDS]


def _ranks(case: str) -> int:
    return 4 if "hybrid" in case else 2


def _recipe(case: str) -> Recipe:
    optimizer, precision, layout, *flags = _values(case)
    keys = ("hardware.activation_checkpointing", "hardware.compile", "document_masking")
    switches = [f"{key}={str(flag != '').lower()}" for key, flag in zip(keys, flags, strict=False)]
    shard = f"hardware.shard={'node' if layout == 'hybrid' else layout}"
    return load_recipe("nano", [*SHAPE, f"optimizer.kind={optimizer}", f"precision={precision}", shard, *switches])


TOLERANCE = {"adamw": (1e-6, 1e-6, 1e-5), "muon": (1e-6, 2e-5, 5e-3)}
"""Relative differences of losses, norms of gradients and changes of weights; Muon rounds its directions to bf16."""


class Programs:
    """A backend of torch.compile that counts programs by the products that they hold."""

    def __init__(self) -> None:
        self.traced: Counter[int] = Counter()

    def __call__(self, graph: torch.fx.GraphModule, inputs: list[Tensor]) -> object:
        from torch._dynamo.backends.debugging import aot_eager

        self.traced[len(graph.graph.find_nodes(op="call_function", target=torch.nn.functional.linear))] += 1
        return aot_eager(graph, inputs)


def _train(case: str, ranks: Ranks) -> dict[str, Any]:
    """Two steps on this rank's rows: losses and norms of all ranks, and the change of the weights."""
    training_state.stays_gathered = lambda *_: "gathered" in case  # type: ignore[attr-defined]
    recipe = _recipe(case)
    state = TrainingState(recipe, ranks)
    documents = Documents(Separator(1, ends=False), segments=False) if recipe.document_masking else None
    gradients = Gradients(
        state.model,
        micro_batch=recipe.micro_batch,
        documents=documents,
        compiled=recipe.hardware.compile,
        gathered=state.gathered,
    )
    masters = state.weights.masters
    before = {name: whole(weight.detach()).clone() for name, weight in masters.items()}
    generator = torch.Generator().manual_seed(0)
    losses, norms = [], []
    for step in range(STEPS):
        tokens = torch.randint(0, 50, (ROWS, recipe.model.context + 1), generator=generator)
        own = tokens.view(-1, PASS, tokens.shape[1])[ranks.rank :: ranks.count].flatten(0, 1)  # the same passes
        batch = StepBatch(step, None, own[:, :-1], own[:, 1:], ROWS * recipe.model.context)  # type: ignore[arg-type]
        total, _ = gradients(batch)
        norm = gradient_norm(masters.values())
        clip(masters.values(), 0.5, norm, float(norm))
        losses += ranks.sums([float(total) / batch.predicted])
        norms.append(float(norm))
        state.update(0.01)
    change = {name: whole(weight.detach()) - before[name] for name, weight in masters.items()}
    return {"losses": losses, "norms": norms, "change": torch.cat([part.flatten() for part in change.values()])}


def _case(case: str, ranks: Ranks) -> dict[str, Any]:
    """What ranks and a plain process give, and what was compiled."""
    from torch._dynamo import reset
    from torch._dynamo.utils import counters

    reset()
    counters.clear()
    programs = Programs()
    original = torch.compile
    torch.compile = lambda function, **options: original(function, backend=programs, **options)  # type: ignore[assignment]
    ours = _train(case, ranks)
    breaks = dict(counters["graph_break"])
    torch.compile = original
    if not ranks.first:
        return {}
    theirs = _train(case.replace("compiled", "").replace("checkpointed", ""), Ranks())
    change, expected = ours.pop("change"), theirs.pop("change")
    differs = float((change - expected).norm() / expected.norm())
    return {"ours": ours, "plain": theirs, "differs": differs, "breaks": breaks, "programs": dict(programs.traced)}


def _work(worker: int, ports: list[int], folder: Path) -> None:
    """Run the cases of a worker's pair, then those of all four; the first rank of each writes what it gave."""
    torch.set_num_threads(1)
    training_state.prepare_compiler = lambda: None  # type: ignore[attr-defined]
    pairs = [number for number, case in enumerate(CASES) if _ranks(case) == 2]
    all_four = [number for number, case in enumerate(CASES) if _ranks(case) == 4]
    for number in [*pairs[worker // 2 :: 2], *all_four]:
        case = CASES[number]
        rank = worker if _ranks(case) == 4 else worker % 2
        os.environ.update(RANK=str(rank), WORLD_SIZE=str(_ranks(case)), LOCAL_WORLD_SIZE="2", LOCAL_RANK=str(rank % 2))
        os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(ports[number]))
        try:
            with join_ranks(60) as ranks:
                result = _case(case, ranks)
        except BaseException:
            (folder / f"{number}-error-{rank}").write_text(traceback.format_exc())
            raise
        if rank == 0:
            (folder / str(number)).write_text(json.dumps(result))


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    folder, ports = tmp_path_factory.mktemp("cases"), [free_port() for _ in CASES]
    workers = [CONTEXT.Process(target=_work, args=(worker, ports, folder)) for worker in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(120)
    errors = [path.read_text() for path in sorted(folder.glob("*-error-*"))]
    assert [worker.exitcode for worker in workers] == [0] * 4, "\n".join(errors)
    return {case: json.loads((folder / str(number)).read_text()) for number, case in enumerate(CASES)}


def test_each_two_values_are_combined_in_some_case() -> None:
    for (one, values), (other, others) in itertools.combinations(enumerate(FIELDS), 2):
        pairs = {(_values(case)[one], _values(case)[other]) for case in CASES}
        assert pairs == {*itertools.product(values, others)}


@pytest.mark.parametrize("case", CASES)
def test_ranks_train_what_a_plain_process_trains(case: str, results: dict[str, dict[str, Any]]) -> None:
    result, (loss, norm, change) = results[case], TOLERANCE[case.split(maxsplit=1)[0]]
    assert result["ours"]["losses"] == pytest.approx(result["plain"]["losses"], rel=loss)
    assert result["ours"]["norms"] == pytest.approx(result["plain"]["norms"], rel=norm)
    assert result["differs"] < change


@pytest.mark.parametrize("case", [case for case in CASES if "compiled" in case])
def test_all_blocks_are_one_program_without_a_break(case: str, results: dict[str, dict[str, Any]]) -> None:
    """The other program is the loss's."""
    assert results[case]["breaks"] == {}
    assert sorted(results[case]["programs"].values()) == [1, 1]
