import pytest
import torch
from torch import Tensor

from tinyllama.model import Llama
from tinyllama.model.attention import SHORT, attend, causal_bias
from tinyllama.recipe import ModelShape


@pytest.mark.parametrize(("heads", "kv_heads"), [(4, 4), (4, 2), (3, 1)])
@pytest.mark.parametrize("length", [1, 5, 64])
def test_plain_products_equal_torchs_attention_and_its_gradients(heads: int, kv_heads: int, length: int) -> None:
    torch.manual_seed(0)
    parts = [torch.randn(2, length, n, 8, dtype=torch.float64).transpose(1, 2) for n in (heads, kv_heads, kv_heads)]
    toward = torch.randn(2, heads, length, 8, dtype=torch.float64)

    def run(bias: Tensor | None) -> list[Tensor]:
        query, key, value = (part.clone().requires_grad_() for part in parts)
        mixed = attend(query, key, value, None, bias)
        return [mixed, *torch.autograd.grad(mixed, (query, key, value), toward)]

    for ours, theirs in zip(run(causal_bias(length, torch.device("cpu"))), run(None), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)  # the softmax is computed in fp32


def test_training_and_inference_give_the_same_logits_on_both_sides_of_the_limit() -> None:
    model = Llama(ModelShape(layers=2, width=16, ffn=32, heads=2, kv_heads=1, context=SHORT + 1, vocab_size=50))
    model.initialise(0)
    for length in (SHORT, SHORT + 1):
        tokens = torch.randint(0, 50, (1, length))
        trained = model(tokens)
        with torch.no_grad():
            torch.testing.assert_close(trained, model(tokens), rtol=0, atol=1e-5)
