"""Symbols of torch without a public name are there, and do what we use them for."""

import ast
import re
from pathlib import Path

import pytest
import torch
from torch import distributed

import tinyllama
from tinyllama.model import torch_internals as internals
from tinyllama.model.packed import products_with

PRIVATE = re.compile(r"torch(\.\w+)*\._[a-zA-Z]|torch\.ops\.\w+\._|\._parameters\b|torch\.testing\._internal")


def test_no_other_module_uses_a_private_symbol_of_torch() -> None:
    package = Path(tinyllama.__file__).parent
    for path in package.rglob("*.py"):
        if path.name == "torch_internals.py":
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [ast.unparse(node) for node in ast.walk(tree) if isinstance(node, ast.Attribute)]
        names += [
            f"{node.module}.{a.name}" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) for a in node.names
        ]
        private = [name for name in names if name.startswith("torch") and PRIVATE.search(name)]
        private += [name for name in names if name.endswith("._parameters")]
        assert not private, f"{path}: {private}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_packed_product_is_the_plain_one(dtype: torch.dtype) -> None:
    assert hasattr(torch.ops.mkldnn, "_linear_pointwise")
    x, weight = torch.randn(5, 16).to(dtype), torch.randn(7, 16).to(dtype)
    torch.testing.assert_close(products_with(weight, 5)(x), x @ weight.T)


def test_bf16_is_not_packed_where_the_cpu_cannot_multiply_it(monkeypatch: pytest.MonkeyPatch) -> None:
    weight = torch.randn(7, 16)
    assert internals.can_pack(weight)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: False)
    assert not internals.can_pack(weight.bfloat16())
    assert internals.can_pack(weight)


def test_the_gradient_of_softmax_is_autograds_with_and_without_torchs_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert hasattr(torch, "_softmax_backward_data")
    scores, grad = torch.randn(3, 9, dtype=torch.float64, requires_grad=True), torch.randn(3, 9, dtype=torch.float64)
    probabilities = scores.softmax(-1)
    (expected,) = torch.autograd.grad(probabilities, scores, grad)
    torch.testing.assert_close(internals.softmax_backward(grad, probabilities.detach()), expected)
    monkeypatch.delattr(torch, "_softmax_backward_data")
    torch.testing.assert_close(internals.softmax_backward(grad, probabilities.detach()), expected)


def test_failures_of_the_compiler_have_a_type() -> None:
    assert len(internals.compiler_errors()) == 3


def test_the_header_of_kernels_can_be_compiled_ahead() -> None:
    from torch._inductor.codecache import CppPythonBindingsCodeCache

    assert callable(CppPythonBindingsCodeCache.load_pybinding_async)


def test_tensors_without_data_are_known_and_collectives_may_send_nothing() -> None:
    with internals.shapes_only():
        tensor = torch.ones(3)
    assert internals.is_fake(tensor)
    assert not internals.is_fake(torch.ones(3))
    assert not internals.can_pack(tensor)
    with internals.fake_process_group(8):
        assert distributed.get_world_size() == 8
    assert not distributed.is_initialized()


def test_dispatch_modes_and_trees_are_there() -> None:
    assert isinstance(internals.TorchDispatchMode, type)
    assert internals.tree_leaves({"a": [1, (2, 3)]}) == [1, 2, 3]


@pytest.mark.parametrize("at_once", [True, False])
def test_many_tensors_are_copied_and_rounded_as_each_alone(at_once: bool, monkeypatch: pytest.MonkeyPatch) -> None:  # noqa: FBT001
    if at_once:
        assert hasattr(torch, "_foreach_copy_")
    else:
        monkeypatch.delattr(torch, "_foreach_copy_")
    sources = [torch.randn(shape) for shape in ((3,), (40, 7), (1000,))]
    targets = [torch.empty_like(source, dtype=torch.bfloat16) for source in sources]
    internals.copy_all(targets, sources)
    for target, source in zip(targets, sources, strict=True):
        assert torch.equal(target, torch.empty_like(target).copy_(source))


def test_the_record_of_collectives_is_nccls_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL has a recorder of its own, of which a PyTorch for CPUs has no function; the other's is there."""
    assert b"version" in internals.recorded_collectives()
    monkeypatch.setattr("torch._C._distributed_c10d._dump_nccl_trace_json", lambda: b"nccl's", raising=False)
    assert internals.recorded_collectives() == b"nccl's"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("InvalidCxxCompiler: none\n\nSet TORCHDYNAMO_VERBOSE=1", "InvalidCxxCompiler: none"),
        ("backend='inductor' raised:\nFileNotFoundError: g++\n\nSet", "FileNotFoundError: g++"),
        ("", "ValueError"),
    ],
)
def test_the_reason_of_a_compiler_error_is_one_line(text: str, reason: str) -> None:
    assert internals.compiler_reason(ValueError(text)) == reason
