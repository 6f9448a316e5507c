"""Families of shapes: models of all sizes with the proportions of a published one."""

from __future__ import annotations

from dataclasses import dataclass

from tinyllama.recipe import ModelShape

WIDTHS = (
    *(64, 96, 128, 160, 192, 256, 320, 384, 448, 512, 576, 640, 768, 896, 960, 1024),
    *(1152, 1280, 1536, 1792, 2048, 2304, 2560, 3072, 3584, 4096),
)
"""Widths that are planned: whole numbers of heads, about a fifth apart."""
_NARROW, _NARROW_HEAD = 512, 32
"""Below this width, heads are smaller, so that there are several."""
_FFN_MULTIPLE = 32
"""The inner width is a multiple of it, as matrix units want it."""


@dataclass(frozen=True)
class ShapeFamily:
    """Proportions of a model."""

    name: str
    width_per_layer: float
    head: int
    """Dimension of a head."""
    queries_per_kv: float
    """Query heads that share a key-value head."""
    ffn_per_width: float
    tied: bool
    """Whether the head is the embedding."""
    source: str

    def shape(self, width: int, vocab_size: int, context: int) -> ModelShape:
        """The shape of a width.

        Args:
            width: of `WIDTHS`.
            vocab_size: number of ids.
            context: tokens of a sequence.
        """
        head = self.head if width >= _NARROW and width % self.head == 0 else _NARROW_HEAD
        heads = width // head
        kv_heads = min(_divisors(heads), key=lambda divisor: (abs(heads / divisor - self.queries_per_kv), divisor))
        return ModelShape(
            layers=max(2, round(width / self.width_per_layer)),
            width=width,
            ffn=_FFN_MULTIPLE * round(self.ffn_per_width * width / _FFN_MULTIPLE),
            heads=heads,
            kv_heads=kv_heads,
            context=context,
            vocab_size=vocab_size,
            tied_embeddings=self.tied,
        )


FAMILIES = {
    family.name: family
    for family in (
        ShapeFamily("smollm", 960 / 32, 64, 3, 8 / 3, tied=True, source="SmolLM2-360M (Allal et al. 2025)"),
        ShapeFamily("tinyllama", 2048 / 22, 64, 8, 5632 / 2048, tied=False, source="TinyLlama (Zhang et al. 2024)"),
    )
}
"""`smollm` is deep and thin, which suits small models (Liu et al. 2024, "MobileLLM"); `tinyllama` is wide, and fast."""
DEEP, WIDE = "smollm", "tinyllama"
_DEEP_BELOW, _WIDE_FROM = 1280, 1792
"""Widths up to which models are deep, and from which they are wide; those between would be smaller than narrow deep
ones."""


def candidates(family: str | None = None) -> list[tuple[ShapeFamily, int]]:
    """Families and widths to choose from, from the smallest model to the largest.

    Args:
        family: one of `FAMILIES`; None for deep and thin models below 600M parameters, and wide ones above.
    """
    if family is not None:
        return [(FAMILIES[family], width) for width in WIDTHS]
    deep = [(FAMILIES[DEEP], width) for width in WIDTHS if width < _DEEP_BELOW]
    return deep + [(FAMILIES[WIDE], width) for width in WIDTHS if width >= _WIDE_FROM]


def _divisors(number: int) -> list[int]:
    return [divisor for divisor in range(1, number + 1) if number % divisor == 0]
