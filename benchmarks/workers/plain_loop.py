"""What a skilled person writes in an afternoon: a plain compiled Llama, bf16 weights with fp32 masters, chunked loss.

    python plain_loop.py INPUTS RECORDS

Shapes in comments: B batch, T positions, D width, H heads, K kv heads, C head size, N targets.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from task import Masters, Records, Task
from torch import Tensor, nn
from torch.nn import functional

CHUNK = 512
"""Targets whose logits exist at a time."""


class Block(nn.Module):
    """One decoder layer, with transformers' names."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        width, ffn, self.size = config["hidden_size"], config["intermediate_size"], config["head_dim"]
        heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
        self.input_layernorm = nn.RMSNorm(width, config["rms_norm_eps"])
        self.post_attention_layernorm = nn.RMSNorm(width, config["rms_norm_eps"])
        self.self_attn = nn.ModuleDict(
            {
                "q_proj": nn.Linear(width, heads * self.size, bias=False),
                "k_proj": nn.Linear(width, kv_heads * self.size, bias=False),
                "v_proj": nn.Linear(width, kv_heads * self.size, bias=False),
                "o_proj": nn.Linear(width, width, bias=False),
            }
        )
        self.mlp = nn.ModuleDict(
            {
                "gate_proj": nn.Linear(width, ffn, bias=False),
                "up_proj": nn.Linear(width, ffn, bias=False),
                "down_proj": nn.Linear(ffn, width, bias=False),
            }
        )

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]; the tables are [T, C]."""
        normed = self.input_layernorm(x)
        query, key, value = (
            self.self_attn[name](normed).unflatten(-1, (-1, self.size)).transpose(1, 2)  # [B, H or K, T, C]
            for name in ("q_proj", "k_proj", "v_proj")
        )
        query, key = (part * cos + _half_turn(part) * sin for part in (query, key))
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True, enable_gqa=True)
        x = x + self.self_attn["o_proj"](mixed.transpose(1, 2).flatten(2))
        normed = self.post_attention_layernorm(x)
        gated = functional.silu(self.mlp["gate_proj"](normed)) * self.mlp["up_proj"](normed)
        out: Tensor = x + self.mlp["down_proj"](gated)
        return out


class PlainLlama(nn.Module):
    """Embedding, blocks and norm; the head is applied by the loss."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(config["vocab_size"], config["hidden_size"])
        self.layers = nn.ModuleList(Block(config) for _ in range(config["num_hidden_layers"]))
        self.norm = nn.RMSNorm(config["hidden_size"], config["rms_norm_eps"])
        self.lm_head = nn.Linear(config["hidden_size"], config["vocab_size"], bias=False)
        size = config["head_dim"]
        angles = torch.arange(config["max_position_embeddings"])[:, None] * config["rope_theta"] ** (
            -torch.arange(0, size, 2) / size
        )
        self.register_buffer("cos", torch.cat([angles, angles], -1).cos().bfloat16(), persistent=False)
        self.register_buffer("sin", torch.cat([angles, angles], -1).sin().bfloat16(), persistent=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """[B, T] → [B, T, D]."""
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            x = layer(x, self.cos, self.sin)
        out: Tensor = self.norm(x)
        return out


def _half_turn(x: Tensor) -> Tensor:
    first, second = x.chunk(2, -1)
    return torch.cat([-second, first], -1)


def _loss(hidden: Tensor, head: Tensor, targets: Tensor) -> Tensor:
    """Summed cross-entropy of one chunk: [N, D], [V, D], [N]."""
    return functional.cross_entropy((hidden @ head.T).float(), targets, reduction="sum")


def main() -> None:
    """Train until killed."""
    task, records = Task(Path(sys.argv[1])), Records(Path(sys.argv[2]))
    model = PlainLlama(json.loads((task.folder / "config.json").read_text(encoding="utf-8")))
    weights = load_file(task.folder / "model.safetensors")
    model.load_state_dict({name.removeprefix("model."): weight for name, weight in weights.items()})
    masters = Masters(model)
    forward, chunk_loss = torch.compile(model), torch.compile(_loss)
    for step, (inputs, targets) in enumerate(task.batches()):
        hidden = forward(inputs)
        leaf = hidden.detach().flatten(0, 1).requires_grad_()
        total = torch.zeros(())
        for part, wanted in zip(torch.split(leaf, CHUNK), torch.split(targets.flatten(), CHUNK), strict=True):
            loss = chunk_loss(part, model.lm_head.weight, wanted) / targets.numel()
            loss.backward()  # type: ignore[no-untyped-call]
            total += loss.detach()
        assert leaf.grad is not None  # noqa: S101  # the loop just made it
        hidden.backward(leaf.grad.view_as(hidden))
        masters.step(task.learning_rate(step))
        records.step(total.item())


if __name__ == "__main__":
    main()
