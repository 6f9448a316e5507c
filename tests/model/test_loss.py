from unittest import mock

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from tinyllama.corpus.rows import IGNORED
from tinyllama.model.loss import BLOCK, CHUNK, HeadLoss, add_product, adds_in_fp32


@pytest.mark.parametrize("rows", [1, CHUNK - 1, CHUNK, 2 * CHUNK + 3, BLOCK, 2 * BLOCK + CHUNK + 1])
def test_loss_and_gradients_equal_torchs_cross_entropy(rows: int) -> None:
    torch.manual_seed(0)
    hidden = torch.randn(rows, 16, dtype=torch.float32, requires_grad=True)
    weight = torch.randn(50, 16, requires_grad=True)
    targets = torch.randint(0, 50, (rows,))
    if rows > 1:
        targets[::3] = IGNORED
    scale = 1 / 7
    ours = HeadLoss()(hidden, weight, targets, scale=scale)
    ours.backward()
    grad_hidden, grad_weight = hidden.grad, weight.grad
    hidden.grad = weight.grad = None
    theirs = functional.cross_entropy(hidden @ weight.T, targets, ignore_index=IGNORED, reduction="sum")
    (theirs * scale).backward()
    torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(grad_hidden, hidden.grad)
    torch.testing.assert_close(grad_weight, weight.grad)


@settings(max_examples=30, deadline=None)
@given(
    rows=st.integers(1, 40), chunk=st.integers(1, 9), chunks=st.integers(1, 4), z_loss=st.sampled_from([1e-4, 0.1, 3.0])
)
def test_z_loss_has_the_gradients_of_its_formula_in_fp64_whatever_the_chunks(
    rows: int, chunk: int, chunks: int, z_loss: float
) -> None:
    torch.manual_seed(rows)
    hidden = torch.randn(rows, 8, requires_grad=True)
    weight = torch.randn(21, 8, requires_grad=True)
    targets = torch.randint(0, 21, (rows,))
    targets[1::3] = IGNORED
    scale = 1 / 7
    with mock.patch.multiple("tinyllama.model.loss", CHUNK=chunk, BLOCK=chunk * chunks):
        head = HeadLoss(z_loss=z_loss)
        ours = head(hidden, weight, targets, scale=scale)
    ours.backward()
    exact = hidden.detach().double().requires_grad_(), weight.detach().double().requires_grad_()
    logits = exact[0] @ exact[1].T
    theirs = functional.cross_entropy(logits, targets, ignore_index=IGNORED, reduction="sum")
    squares = logits[targets != IGNORED].logsumexp(-1).square().sum()
    (scale * (theirs + z_loss * squares)).backward()
    assert float(ours.detach()) == pytest.approx(float(theirs.detach()), rel=1e-5), "without the z-loss"
    assert float(head.z_sum) == pytest.approx(float(squares.detach()), rel=1e-5)
    for one, other in zip((hidden, weight), exact, strict=True):
        assert one.grad is not None
        torch.testing.assert_close(one.grad.double(), other.grad, rtol=1e-4, atol=1e-5)


def test_an_ignored_target_gives_no_loss_and_no_gradient() -> None:
    hidden = torch.randn(4, 8, requires_grad=True)
    weight = torch.randn(10, 8, requires_grad=True)
    loss = HeadLoss()(hidden, weight, torch.full((4,), IGNORED), scale=1.0)
    loss.backward()
    assert float(loss.detach()) == 0
    assert hidden.grad is not None
    assert not hidden.grad.any()
    assert weight.grad is not None
    assert not weight.grad.any()


def test_huge_logits_do_not_overflow() -> None:
    hidden = torch.full((2, 4), 1e3, requires_grad=True)
    weight = torch.eye(4).repeat(2, 1).requires_grad_()
    loss = HeadLoss()(hidden, weight, torch.tensor([0, 1]), scale=1.0)
    loss.backward()
    assert torch.isfinite(loss)
    assert torch.isfinite(weight.grad).all()


@pytest.mark.parametrize(("vocabulary", "targets"), [(200_000, 2**10), (80_000, 2**21)])
def test_in_fp16_gradients_do_not_overflow_with_a_large_vocabulary_or_vanish_in_a_large_batch(
    vocabulary: int, targets: int
) -> None:
    generator = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(8, 16, generator=generator), 0.05 * torch.randn(vocabulary, 16, generator=generator)
    gradients = []
    for dtype in (torch.float32, torch.float16):
        leaves = [part.to(dtype, copy=True).requires_grad_() for part in (hidden, weight)]
        HeadLoss()(*leaves, torch.arange(8), scale=2**16 / targets).backward()
        gradients.append([leaf.grad.float() for leaf in leaves if leaf.grad is not None])
    for exact, half in zip(*gradients, strict=True):
        assert (half - exact).norm() < 1e-2 * exact.norm()


def test_on_cuda_blocks_are_added_to_the_heads_gradient_in_fp32_by_its_product(monkeypatch: pytest.MonkeyPatch) -> None:
    """The kernel itself is CUDA's; tensors without data show that it takes the arguments."""
    with FakeTensorMode():
        cuda = torch.empty(2, dtype=torch.bfloat16, device="cuda")
    for has in (True, False):  # the device is asked, which is not here
        monkeypatch.setattr("tinyllama.model.loss._has_wide_sums", lambda _device, _dtype, has=has: has)
        assert [adds_in_fp32(one) for one in (cuda, cuda.float(), torch.empty(2).bfloat16())] == [has, False, False]
    left, right = (torch.empty(shape, dtype=torch.bfloat16, device="meta") for shape in ((500, 90), (90, 64)))
    total = add_product(None, left, right)
    assert (total.shape, total.dtype) == ((500, 64), torch.float32)
    assert add_product(total, left, right) is total

    def in_two_steps(total: Tensor | None, left: Tensor, right: Tensor) -> Tensor:
        product = left.float() @ right.float()
        return product if total is None else total.add_(product)

    hidden, weight = torch.randn(2 * BLOCK + 9, 16).bfloat16(), torch.randn(30, 16).bfloat16()
    targets = torch.randint(30, (len(hidden),))

    def gradient() -> Tensor:
        head = weight.clone().requires_grad_()
        HeadLoss()(hidden, head, targets, scale=1.0).backward()  # type: ignore[no-untyped-call]
        assert head.grad is not None
        return head.grad

    plain = gradient()
    monkeypatch.setattr("tinyllama.model.loss.adds_in_fp32", lambda _: True)
    monkeypatch.setattr("tinyllama.model.loss.add_product", in_two_steps)
    torch.testing.assert_close(gradient(), plain, rtol=2e-2, atol=0.1)
