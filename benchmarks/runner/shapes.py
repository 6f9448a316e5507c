"""The shapes that are measured, as overrides of the speed recipe."""

from __future__ import annotations

from dataclasses import dataclass

from tinyllama.recipe import load_recipe

from .inputs import RECIPE


@dataclass(frozen=True)
class Shape:
    """A model and the batch that it is trained with."""

    name: str
    model: tuple[int, int, int, int, int, int]
    """Layers, width, FFN, heads, KV heads, context."""
    batch: int
    """Sequences of a step."""
    vocabulary: int = 32000
    text: str = "8M"
    """Characters of each kind of text, at most."""

    @property
    def overrides(self) -> list[str]:
        """Overrides of the speed recipe."""
        keys = ("layers", "width", "ffn", "heads", "kv_heads", "context")
        return [
            *(f"model.{key}={value}" for key, value in zip(keys, self.model, strict=True)),
            f"model.vocab_size={self.vocabulary}",
            f"tokenizer.train.vocab_size={self.vocabulary}",
            *(f"corpora.python.sources.{source}.limit={self.text}" for source in (0, 1)),
            *(f"stages.{stage}.batch={self.batch} sequences" for stage in (0, 1)),
        ]

    @property
    def tokens(self) -> int:
        """Tokens per step."""
        return self.batch * self.model[-1]

    @property
    def flops_per_token(self) -> int:
        """FLOPs per token of training: 6·(parameters - input embedding) + 6·layers·width·context."""
        return load_recipe(str(RECIPE), self.overrides).model.flops_per_token

    @property
    def label(self) -> str:
        """The shape in words."""
        layers, width, ffn, heads, kv_heads, context = self.model
        return (
            f"{self.name}: {layers} layers, width {width}, FFN {ffn}, {heads}/{kv_heads} heads, "
            f"vocabulary {self.vocabulary}, {self.batch} x {context} tokens a step"
        )


S = Shape("S", (6, 256, 688, 8, 2, 256), 16)
M = Shape("M", (12, 512, 1408, 8, 2, 512), 4)
TINY = Shape("tiny", (1, 32, 88, 2, 1, 32), 2, vocabulary=512, text="100K")


def mini() -> Shape:
    """The demo's blocks with Llama 2's number of ids, and the batch of its longest stages."""
    model = load_recipe("mini").model
    return Shape("mini", (model.layers, model.width, model.ffn, model.heads, model.kv_heads, model.context), 8)
