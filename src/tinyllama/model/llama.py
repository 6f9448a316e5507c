"""A Llama 2 decoder as a plain `nn.Module`. It knows nothing of distribution, compilation or precision.

Names of modules follow transformers' LlamaForCausalLM, so that weights move by name.

Shapes in comments:
    B batch, T positions in, S positions attended to (cache + T), D width, H heads, K kv heads,
    C head size, F ffn width, V vocabulary.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional

from tinyllama.model.attention import attend
from tinyllama.model.rope import rope_tables, rotate

if TYPE_CHECKING:
    from tinyllama.recipe import ModelShape


class KeyValueCache:
    """Keys and values of the positions already seen, per layer: [B, K, S, C].

    Buffers have spare room, so that a new position is written without copying the others.
    """

    def __init__(self, layers: int, capacity: int = 0) -> None:
        """Make an empty cache.

        Args:
            layers: of the model.
            capacity: positions to make room for at the first; beyond them, the room doubles.
        """
        self._capacity = capacity
        self._buffers: list[tuple[Tensor, Tensor] | None] = [None] * layers
        self._lengths = [0] * layers

    @property
    def length(self) -> int:
        """Positions held by all layers."""
        return self._lengths[-1]

    def extend(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Append one layer's new keys and values; returns all of them, as views that the next call may invalidate."""
        start = self._lengths[layer]
        end = start + key.shape[2]
        buffers = self._buffers[layer]
        if buffers is None or end > buffers[0].shape[2]:
            room = max(self._capacity, end if buffers is None else 2 * end)
            held = buffers or (key[:, :, :0], value[:, :, :0])
            buffers = _enlarge(held[0], start, room), _enlarge(held[1], start, room)
            self._buffers[layer] = buffers
        buffers[0][:, :, start:end] = key
        buffers[1][:, :, start:end] = value
        self._lengths[layer] = end
        return buffers[0][:, :, :end], buffers[1][:, :, :end]

    def truncate(self, length: int) -> None:
        """Keep the first positions, at most as many as all layers hold: after a pass that was interrupted, too."""
        self._lengths = [min(length, self.length)] * len(self._lengths)

    def repeat(self, copies: int) -> None:
        """Turn B texts into `copies` x B, all of them in order, then all again, to continue each in several ways."""
        for layer, buffers in enumerate(self._buffers):
            if buffers is not None:
                self._buffers[layer] = (buffers[0].repeat(copies, 1, 1, 1), buffers[1].repeat(copies, 1, 1, 1))


def _enlarge(held: Tensor, length: int, room: int) -> Tensor:
    """A buffer [B, K, room, C] that begins with the first `length` positions of another."""
    buffer = held.new_empty(*held.shape[:2], room, held.shape[3])
    buffer[:, :, :length] = held[:, :, :length]
    return buffer


class Linear(nn.Linear):
    """A product with a matrix, whose weights `Llama.initialize` or a file gives."""

    def reset_parameters(self) -> None:
        """Draw nothing: torch's own draws would cost as much time as ours."""


class RMSNorm(nn.Module):
    """Root-mean-square norm (Zhang & Sennrich 2019), computed in fp32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        """[..., D] → [..., D]."""
        wide = x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        return self.weight * wide.to(x.dtype)


class Attention(nn.Module):
    """Causal grouped-query attention with rotary positions."""

    def __init__(self, shape: ModelShape, layer: int) -> None:
        super().__init__()
        self.layer, self.heads, self.kv_heads, self.head_size = (
            layer,
            shape.heads,
            shape.kv_heads,
            shape.head_size,
        )
        self.q_proj = Linear(shape.width, shape.attention_width, bias=False)
        self.k_proj = Linear(shape.width, shape.kv_heads * shape.head_size, bias=False)
        self.v_proj = Linear(shape.width, shape.kv_heads * shape.head_size, bias=False)
        self.o_proj = Linear(shape.attention_width, shape.width, bias=False)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        """[B, T, D] → [B, T, D]; for `mask` see `attend`."""
        batch, length, _ = x.shape
        query = self.q_proj(x).view(batch, length, self.heads, self.head_size).transpose(1, 2)
        key = self.k_proj(x).view(batch, length, self.kv_heads, self.head_size).transpose(1, 2)
        value = self.v_proj(x).view(batch, length, self.kv_heads, self.head_size).transpose(1, 2)
        query, key = rotate(query, cos, sin), rotate(key, cos, sin)
        if cache is not None:
            key, value = cache.extend(self.layer, key, value)
        mixed = attend(query, key, value, mask)
        out: Tensor = self.o_proj(mixed.transpose(1, 2).reshape(batch, length, -1))
        return out


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020)."""

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.gate_proj = Linear(shape.width, shape.ffn, bias=False)
        self.up_proj = Linear(shape.width, shape.ffn, bias=False)
        self.down_proj = Linear(shape.ffn, shape.width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        out: Tensor = self.down_proj(functional.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


class Block(nn.Module):
    """One decoder layer, pre-norm."""

    def __init__(self, shape: ModelShape, layer: int) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.self_attn = Attention(shape, layer)
        self.post_attention_layernorm = RMSNorm(shape.width, shape.norm_eps)
        self.mlp = FeedForward(shape)

    def forward(
        self,
        x: Tensor,
        cos: Tensor,
        sin: Tensor,
        mask: Tensor | None,
        cache: KeyValueCache | None,
    ) -> Tensor:
        """[B, T, D] → [B, T, D]."""
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask, cache)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Llama(nn.Module):
    """Embedding, blocks, final norm and head.

    `hidden` gives the normed states [B, T, D]; `forward` gives logits [B, T, V]. Training takes `hidden`
    and computes its loss over the head in chunks.
    """

    def __init__(self, shape: ModelShape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocab_size, shape.width)
        self.layers = nn.ModuleList(Block(shape, layer) for layer in range(shape.layers))
        self.norm = RMSNorm(shape.width, shape.norm_eps)
        self.lm_head = Linear(shape.width, shape.vocab_size, bias=False)
        if shape.tied_embeddings:
            self.lm_head.weight = self.embed_tokens.weight

    def hidden(
        self,
        tokens: Tensor,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Token ids [B, T] → normed states [B, T, D].

        Args:
            tokens: ids; with a cache, only those not seen yet.
            mask: see `attend`; None means causal.
            cache: extended in place by the new positions.
            positions: of the ids in their texts [B, 1, T], where they are not consecutive (several
                texts after a prefix that they share, texts of different length side by side); needs a mask.
        """
        start = 0 if cache is None else cache.length
        length = tokens.shape[1]
        if positions is None:
            positions = torch.arange(start, start + length, device=tokens.device)
        if mask is None and start and length > 1:
            mask = (torch.arange(start + length, device=tokens.device)[None, :] <= positions[:, None])[None, None]
        x = self.embed_tokens(tokens)
        cos, sin = (table.to(x.dtype) for table in rope_tables(positions, self.shape))
        for layer in self.layers:
            x = layer(x, cos, sin, mask, cache)
        out: Tensor = self.norm(x)
        return out

    def forward(self, tokens: Tensor, mask: Tensor | None = None, cache: KeyValueCache | None = None) -> Tensor:
        """Token ids [B, T] → logits [B, T, V]."""
        logits: Tensor = self.lm_head(self.hidden(tokens, mask, cache))
        return logits

    @torch.no_grad()
    def initialize(self, seed: int, widening: float = 1.0) -> None:
        """Draw all weights from one generator, in the order of `named_parameters`.

        ==========================  ==============================================
        norms                       1
        o_proj, down_proj           normal, std 1 / (sqrt(width) * layers)
        embed_tokens                normal, std sqrt(2 / (5 * width) * widening)
        lm_head                     normal, std sqrt(2 / (5 * width) / widening)
        everything else             normal, std sqrt(2 / (5 * width))
        ==========================  ==============================================

        The scheme of TinyLlama v1.0; `widening`, the width as a multiple of muP's base width, is 1 there. With it, the
        embeddings do not depend on the width, and the head falls with it (Yang et al. 2022, table 3).
        """
        generator = torch.Generator().manual_seed(seed)
        wide = math.sqrt(2 / (5 * self.shape.width))
        scales = {"embed_tokens.weight": math.sqrt(widening), "lm_head.weight": 1 / math.sqrt(widening)}
        narrow = 1 / (math.sqrt(self.shape.width) * self.shape.layers)
        for name, weight in self.named_parameters():
            if name.endswith(("norm.weight", "layernorm.weight")):
                weight.fill_(1.0)
            else:
                std = narrow if "o_proj" in name or "down_proj" in name else wide
                std *= scales.get(name, 1.0)
                weight.normal_(0.0, std, generator=generator)
