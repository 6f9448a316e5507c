"""The one record of an evaluation, whatever was evaluated: a single model, a family's model, or one in training."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Self

from tinyllama.evaluation.noise import RESAMPLES, Difference, differences
from tinyllama.evaluation.published import PARAMETERS
from tinyllama.installation import installed_versions

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.evaluation.agreement import Agreement
    from tinyllama.evaluation.scores import TaskScores
    from tinyllama.files import Json
    from tinyllama.formats.identity import ModelIdentity

EXACT = "fp32"
"""The precision that others are compared with."""
PRECISIONS = (EXACT, "bf16")
"""Those that models are evaluated in."""
_LIBRARIES = ("tinyllama", "lm_eval", "torch", "transformers", "tokenizers", "sentencepiece", "datasets")


@dataclass(frozen=True)
class SourceBits:
    """What a model needs for the held-out documents of one of a corpus's sources."""

    bytes: int
    """UTF-8 bytes of their text."""
    total: float
    """Bits for all of it."""

    @property
    def per_byte(self) -> float:
        """Bits per byte."""
        return self.total / self.bytes


@dataclass(frozen=True)
class TextBits:
    """What a model needs for one text."""

    bytes: int
    """UTF-8 bytes of the text."""
    total: float
    """Bits for the whole text."""
    bits: list[float]
    """For each of its pieces, which have equal sizes in bytes; in the order of rounding alone, their sum differs."""
    sources: dict[str, SourceBits] = field(default_factory=dict)
    """By source, for a corpus of several; empty for other texts, and in a record of an earlier version."""

    @property
    def per_byte(self) -> float:
        """Bits per byte of the whole text."""
        return self.total / self.bytes


@dataclass(frozen=True)
class BitsPerByte:
    """Bits per byte of texts, and how they were measured."""

    values: dict[str, float]
    """By corpus, or by the path of a text."""
    window: int
    """Tokens seen at once."""
    stride: int
    """Tokens between the starts of two windows."""
    precision: str
    """Of the weights and products."""
    texts: dict[str, TextBits] = field(default_factory=dict)
    """What the values follow from; empty in a record of an earlier version."""

    @property
    def by_source(self) -> dict[str, dict[str, float]]:
        """Text → source → bits per byte, for the texts that have several sources."""
        return {
            name: {source: bits.per_byte for source, bits in text.sources.items()}
            for name, text in self.texts.items()
            if text.sources
        }

    @classmethod
    def of(cls, texts: dict[str, TextBits], window: int, precision: str) -> Self:
        """The values of measured texts; windows do not overlap."""
        return cls({name: text.per_byte for name, text in texts.items()}, window, window, precision, texts)


@dataclass(frozen=True)
class Conditions:
    """What the figures depend on besides the weights."""

    tokenizer_sha256: str
    dtype: str
    """Precision in which the tasks were scored."""
    device: str
    threads: int
    machine: dict[str, str | int | float]
    """Processor, cores, memory and platform."""
    versions: dict[str, str]
    """Library → version."""
    seconds: float
    limit: int | None = None
    """At most this many questions of each task."""
    rows: int | None = None
    """Rows of a forward pass; None for as many as suit the device."""
    resamples: int = RESAMPLES
    """Of the questions, for bootstrapped errors."""


@dataclass(frozen=True)
class EvaluationRecord:
    """How a model scores, and everything that the figures depend on."""

    model: str
    """Its name: of the family's model, or as the caller named it."""
    source: ModelIdentity
    scores: TaskScores
    bits_per_byte: BitsPerByte | None = None
    """None if it was not measured."""
    conditions: Conditions | None = None
    """None where a record of an earlier version does not state them."""
    inputs: str | None = None
    """Hash of everything a family's record depends on: it is kept while this does not change. None for other models."""
    against_fp32: dict[str, Agreement] | None = None
    """Task → how the answers differ from those in fp32; None for fp32 itself, or where that is not known."""

    @property
    def bits_by_text(self) -> dict[str, float]:
        """Corpus or text → bits per byte; empty if they were not measured."""
        return self.bits_per_byte.values if self.bits_per_byte else {}

    @property
    def bits_by_source(self) -> dict[str, dict[str, float]]:
        """Corpus or text → source → bits per byte, for those that have several sources."""
        return self.bits_per_byte.by_source if self.bits_per_byte else {}

    @property
    def published(self) -> dict[str, dict[str, Difference]]:
        """Published model → task (and `average`) → the difference of the scores to it; empty for other sizes."""
        return differences(self.scores.measured) if self.source.parameters == PARAMETERS else {}


def bits_by_source(records: Mapping[str, EvaluationRecord]) -> dict[str, dict[str, dict[str, float]]]:
    """Model → corpus or text → source → bits per byte; only models and texts that have several sources."""
    return {name: found for name, record in records.items() if (found := record.bits_by_source)}


def library_versions() -> dict[str, str]:
    """Versions of the libraries that scores depend on."""
    return installed_versions(_LIBRARIES)


def record_to_json(record: EvaluationRecord) -> dict[str, Json]:
    """A record as JSON, with what follows from it for readers: the average and the differences to published scores."""
    agreements = record.against_fp32
    return {
        "model": record.model,
        "source": asdict(record.source),
        "inputs": record.inputs,
        "tasks": record.scores.to_json(),
        "bits_per_byte": asdict(record.bits_per_byte) if record.bits_per_byte else None,
        "against_fp32": None if agreements is None else {task: asdict(found) for task, found in agreements.items()},
        "conditions": asdict(record.conditions) if record.conditions else None,
        "published": {
            row: {task: item._asdict() | {"exceeds_noise": item.exceeds_noise} for task, item in compared.items()}
            for row, compared in record.published.items()
        },
    }
