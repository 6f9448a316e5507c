import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional

from tests.conftest import SMALL
from tinyllama.model import Llama
from tinyllama.recipe import load_recipe
from tinyllama.train.compiler import prepare_compiler
from tinyllama.train.feeder import StepBatch
from tinyllama.train.forward_backward import Compilation, Gradients

TWO_STEPS = ("model.layers=1", "stages.0.until=2K", "hardware.compile=true")
SET = [word for override in (*SMALL, *TWO_STEPS) for word in ("--set", override)]


def test_without_a_compiler_training_continues_in_eager_mode_with_a_warning(prepared: Path, tmp_path: Path) -> None:
    subprocess.run(["cp", "-r", str(prepared), str(tmp_path / "family")], check=True)  # noqa: S607
    done = subprocess.run(
        [sys.executable, "-m", "tinyllama", "train", "nano", "--variant", "base", "--run", "family", *SET],
        cwd=tmp_path,
        env={**os.environ, "CXX": "/nowhere/c++", "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    lines = [
        line
        for line in done.stderr.splitlines()
        if "torch.compile does not work here, training continues without it" in line
    ]
    assert 1 <= len(lines) <= 2  # once for the blocks, once for the loss


@pytest.mark.parametrize(("compiler", "expected"), [("true", "1"), ("false", None), ("/nowhere/c++", None)])
def test_only_a_compiler_that_knows_the_latest_instructions_is_spared_trying_them(
    compiler: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_VEC_ISA_OK", "restored after the test")
    monkeypatch.delenv("TORCHINDUCTOR_VEC_ISA_OK")
    monkeypatch.delenv("TORCHDYNAMO_DISABLE", raising=False)
    monkeypatch.setenv("CXX", compiler)
    monkeypatch.setattr("tinyllama.train.compiler.header_compilation", lambda: lambda: None)
    prepare_compiler()
    assert os.environ.get("TORCHINDUCTOR_VEC_ISA_OK") == expected


def test_nothing_is_prepared_where_nothing_will_be_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHDYNAMO_DISABLE", "1")
    monkeypatch.setattr("tinyllama.train.compiler.header_compilation", lambda: pytest.fail("a header is compiled"))
    prepare_compiler()


def test_the_header_of_all_kernels_is_begun_before_anything_is_compiled(tmp_path: Path) -> None:
    program = (
        "import threading; from tinyllama.train.compiler import prepare_compiler; prepare_compiler(); "
        "[thread.join() for thread in threading.enumerate() if thread.name == 'header']"
    )
    environment = os.environ | {"TMPDIR": str(tmp_path), "TORCHINDUCTOR_CACHE_DIR": str(tmp_path / "cache")}
    subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, check=True)
    assert [path for path in tmp_path.glob("**/precompiled_headers/*") if path.suffix in {".gch", ".pch"}]


@pytest.mark.parametrize("tied", [False, True])
def test_z_loss_reaches_every_weight_as_its_formula_in_fp64_does(*, tied: bool) -> None:
    shape = load_recipe("nano", [*SMALL, f"model.tied_embeddings={tied}"]).model
    model, exact = Llama(shape), Llama(shape).double()
    model.initialize(1)
    exact.load_state_dict(model.state_dict())
    tokens = torch.randint(0, shape.vocab_size, (3, 17), generator=torch.Generator().manual_seed(0))
    batch = StepBatch(0, None, tokens[:, :-1], tokens[:, 1:], 48)  # type: ignore[arg-type]
    _, z_sum = Gradients(model, micro_batch=2, documents=None, compiled=False, z_loss=0.1)(batch)
    logits = exact(batch.inputs).flatten(0, 1)
    squares = logits.logsumexp(-1).square().mean()
    (functional.cross_entropy(logits, batch.targets.flatten()) + 0.1 * squares).backward()
    assert float(z_sum) / 48 == pytest.approx(float(squares.detach()), rel=1e-5)
    for (name, weight), other in zip(model.named_parameters(), exact.parameters(), strict=True):
        assert weight.grad is not None, name
        assert other.grad is not None, name
        assert (weight.grad - other.grad).norm() < 1e-5 * other.grad.norm(), name


def test_more_shapes_are_compiled_than_torch_would_and_blocks_share_their_programs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shapes = list[int]()

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        shapes.append(len(inputs[0]))
        return graph.forward

    def double(x: torch.Tensor) -> torch.Tensor:
        return 2 * x

    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend=backend))
    compilation = Compilation()
    blocks = [compilation(double) for _ in range(2)]
    for length in range(2, 22):
        for block in blocks:
            assert block(torch.ones(length)).sum() == 2 * length
    assert shapes == list(range(2, 22))
