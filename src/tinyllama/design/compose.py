"""From text, a budget and a machine to every number of a recipe."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from tinyllama.design import rules
from tinyllama.design.held_out import hold_out
from tinyllama.design.machines import MeasuredMachine
from tinyllama.design.shapes import FAMILIES
from tinyllama.design.sizing import Budget, Size, recommended, sizes
from tinyllama.design.texts import TextSurvey, survey_text
from tinyllama.design.vocabulary import LLAMA2, Candidate, compare_tokenizers
from tinyllama.errors import PlanError
from tinyllama.plan import MANY_EPOCHS
from tinyllama.prepare.tokenizer import TRAINING_CHARACTERS
from tinyllama.processors import available_cores
from tinyllama.tokenizer.llama2 import VOCAB_SIZE

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tinyllama.design.held_out import Part
    from tinyllama.design.machines import Machine

TEXT, GENERAL = "text", "general"
"""The corpus of the base, and the variant that continues on it."""
_FORK, _FORK_ALONE = 0.75, 0.9
"""Part of a model's tokens at which variants fork: TinyLlama v1.1's with domains, later without."""
_MOST_DOMAIN = 0.5
"""Share of a domain's text after the fork at most: that of Chinese in TinyLlama v1.1."""
_RAMP = 0.05
"""Part of the tokens after the fork over which shares move to it."""
_MINUTES_BETWEEN = 30
"""Between checkpoints at most."""
_TASK_FLOPS = 1e19
"""Training FLOPs below which scores of tasks are close to chance."""
_EVALUATED = 0.05
"""Of a model's tokens, what is held out of a text at most; and of the time, what measurements in training may take."""
_MEASUREMENTS, _ROWS = 20, 32
"""Measurements of the held-out losses in a training, and rows of each corpus (the default of `evaluation.rows`)."""
_FORWARD = 1 / 3
"""Time of a token without its backward pass."""
_START, _EACH = 10.0, 5.0
"""Seconds that a family needs besides preparing and training, and each model for its losses, checkpoint and export."""
_MOST_OVERHEAD = 0.7
"""Part of the time that may be no training."""
_GUESS = 3.0
"""Bytes of a token before any tokenizer is measured."""


@dataclass(frozen=True)
class Wishes:
    """What a person asks for."""

    name: str
    text: tuple[str, ...]
    """Paths, globs, URLs or `builtin:NAME`."""
    domains: dict[str, tuple[str, ...]] = field(default_factory=dict)
    """Name of a variant → its text."""
    hours: float | None = None
    """For everything; exactly one of this and `tokens` is set."""
    tokens: int | None = None
    """Of each model, from its first step to its last."""
    epochs: int = MANY_EPOCHS
    """Times that a text is read at most."""
    over_training: float = 1.0
    """Tokens per parameter, as a multiple of the compute-optimal number."""
    family: str | None = None
    """Of shapes; None for the usual ones."""
    tokenizer: str | None = None
    """`own` or `llama2`; None for what suits the text."""
    text_field: str = "text"
    """Of JSON, Parquet and Arrow documents."""


@dataclass(frozen=True)
class DesignedCorpus:
    """A corpus of the recipe."""

    survey: TextSurvey
    part: Part
    """What is held out."""
    tokens: int
    """To train on, an estimate."""
    prompt: str
    """The beginning of a piece of it."""


@dataclass(frozen=True)
class Design:
    """Every number of a recipe, and what it follows from."""

    wishes: Wishes
    machine: str
    size: Size
    tokenizer: Candidate
    others: tuple[Candidate, ...]
    """The tokenizers that were measured and not taken."""
    corpora: dict[str, DesignedCorpus]
    budget: Budget
    overhead: float
    """Seconds of the hours that are not training: preparing, measuring, exporting."""
    fork: int
    """Tokens of the base."""
    total: int
    """Tokens of each model."""
    domain_shares: dict[str, int]
    """Domain → percent of its text after the fork."""
    compiles: bool

    @property
    def batch(self) -> int:
        """Tokens of a batch."""
        return self.size.sequences * self.size.shape.context

    @property
    def peak(self) -> float:
        """Peak of the learning rate."""
        return rules.peak_learning_rate(self.size.flops)

    @property
    def warmup(self) -> int:
        """Tokens of the warm-up."""
        return rules.warmup_tokens(self.batch, self.total)

    @property
    def ramp(self) -> int:
        """Tokens over which shares move to a domain's."""
        return max(self.batch, round(_RAMP * (self.total - self.fork)))

    @property
    def epochs(self) -> float:
        """Times that the variant of the base's text reads it."""
        return self.total / self.corpora[TEXT].tokens

    @property
    def evaluation_every(self) -> int:
        """Tokens between measurements of the held-out losses."""
        times = min(_MEASUREMENTS, _EVALUATED * self.total / _measured_tokens(self.size, len(self.corpora)))
        return max(self.batch, round(self.total / max(1.0, times)))

    @property
    def checkpoint_every(self) -> int:
        """Tokens between checkpoints."""
        speed = self.size.tokens_per_second or math.inf
        return max(self.batch, round(min(self.total / 5, speed * 60 * _MINUTES_BETWEEN)))

    @property
    def measures_tasks(self) -> bool:
        """Whether tasks say something about models of this size."""
        return self.size.flops >= _TASK_FLOPS

    @property
    def training_seconds(self) -> float | None:
        """Of all models."""
        return self.size.seconds

    @property
    def is_bounded_by_text(self) -> bool:
        """Whether the text, and not the time or the number that was asked for, decides the tokens."""
        if self.wishes.tokens is not None:
            return self.size.tokens < self.wishes.tokens
        return self.size.tokens >= self.budget.most_tokens * 0.999


def design(wishes: Wishes, machine: Machine, root: Path, say: Callable[[str], None] = lambda _text: None) -> Design:
    """Look at the text, choose a tokenizer, and find the model that the budget gives.

    Args:
        wishes: what is asked for.
        machine: what trains.
        root: folder that relative paths start from.
        say: receives a line on what is done next.

    Raises:
        CorpusError, SourceError: a text or tokenizer is unavailable, or holds too little.
        PlanError: the hours are too few, or no shape fits in memory.
    """
    surveys = {}
    for name, sources in ({TEXT: wishes.text} | wishes.domains).items():
        say(f"reading {name}: {', '.join(sources)}")
        surveys[name] = survey_text(name, sources, root, wishes.text_field)
    fork = _FORK if wishes.domains else _FORK_ALONE
    budget = _budget(wishes, surveys[TEXT], fork)
    say(f"{'measuring ' if isinstance(machine, MeasuredMachine) else 'machine: '}{machine.name}")
    first = recommended(sizes(machine, budget))
    say(f"comparing tokenizers of {first.shape.vocab_size:,} ids")
    samples = {name: survey.samples for name, survey in surveys.items()}
    best, *others = compare_tokenizers(samples, first.shape.vocab_size, wishes.tokenizer)
    corpora = {name: _corpus(survey, best.bytes_per_token[name], first) for name, survey in surveys.items()}
    overhead = 0.0
    if budget.seconds is not None:
        overhead = _overhead(machine, best, corpora, first, budget.seconds)
    budget = replace(
        budget,
        seconds=None if budget.seconds is None else budget.seconds - overhead,
        most_tokens=wishes.epochs * corpora[TEXT].tokens,
        unique_tokens=corpora[TEXT].tokens,
        vocab_size=best.vocab_size,
    )
    size = recommended(sizes(machine, budget))
    batch = size.sequences * size.shape.context
    steps = max(2, size.tokens // batch)
    base = min(steps - 1, max(1, round(fork * steps)))
    return Design(
        wishes=wishes,
        machine=machine.name,
        size=size,
        tokenizer=best,
        others=tuple(others),
        corpora=corpora,
        budget=budget,
        overhead=overhead,
        fork=base * batch,
        total=steps * batch,
        domain_shares={
            name: _domain_percent(wishes.epochs * corpora[name].tokens, (steps - base) * batch)
            for name in wishes.domains
        },
        compiles=not isinstance(machine, MeasuredMachine) or machine.compiles,
    )


def _budget(wishes: Wishes, text: TextSurvey, fork: float) -> Budget:
    """What is known of the budget before a tokenizer is."""
    variants = 1 + len(wishes.domains)
    return Budget(
        seconds=None if wishes.hours is None else wishes.hours * 3600,
        tokens=wishes.tokens,
        line=1 / (fork + (1 - fork) * variants),
        most_tokens=wishes.epochs * text.unique_bytes / _GUESS,
        over_training=wishes.over_training,
        family=wishes.family,
        vocab_size=VOCAB_SIZE if wishes.tokenizer == LLAMA2 else None,
    )


def _corpus(survey: TextSurvey, bytes_per_token: float, size: Size) -> DesignedCorpus:
    """A text with its held-out part, for a model of about a size."""
    part = hold_out(survey, bytes_per_token, size.shape.context, _EVALUATED * size.tokens)
    tokens = max(1, round((survey.unique_bytes - part.bytes) / bytes_per_token))
    return DesignedCorpus(survey, part, tokens, _prompt(survey))


def _domain_percent(most: int, after: int) -> int:
    """Percent of a domain's text among the tokens after the fork, of which it has `most` at most."""
    return max(1, math.floor(100 * min(_MOST_DOMAIN, most / after)))


def family_source(size: Size) -> str:
    """Where the proportions of a shape come from."""
    return FAMILIES[size.family].source


def _overhead(
    machine: Machine, tokenizer: Candidate, corpora: dict[str, DesignedCorpus], size: Size, seconds: float
) -> float:
    """Seconds of preparing the text, measuring and exporting; of another machine, of measuring alone.

    Raises:
        PlanError: little of the time would be left.
    """
    models, speed = 2 + len(corpora) - 1, size.tokens_per_second or 1.0
    held = sum(each.part.bytes / tokenizer.bytes_per_token[name] for name, each in corpora.items())
    found = _measured_part(size, len(corpora)) * seconds + _FORWARD * held * models / speed
    if isinstance(machine, MeasuredMachine):
        text = sum(each.survey.expected for each in corpora.values())
        sampled = sum(len(piece) for each in corpora.values() for piece in each.survey.samples[::2])
        training = tokenizer.training_seconds * min(text, TRAINING_CHARACTERS * len(corpora)) / max(1, sampled)
        found += _START + _EACH * models + training + text / tokenizer.bytes_per_second / available_cores()
    if found > _MOST_OVERHEAD * seconds:
        raise PlanError(
            f"preparing, evaluating and exporting take about {found:.0f} s of {seconds:.0f} s; give more --hours"
        )
    return found


def _measured_tokens(size: Size, corpora: int) -> float:
    """Tokens whose training takes as long as one measurement of the held-out losses."""
    return _FORWARD * _ROWS * size.shape.context * corpora


def _measured_part(size: Size, corpora: int) -> float:
    """Part of a training that measurements of the held-out losses take."""
    return min(_EVALUATED, _MEASUREMENTS * _measured_tokens(size, corpora) / max(1, size.tokens))


def _prompt(survey: TextSurvey) -> str:
    """The first words of a sample that has some on a line."""
    for sample in survey.samples:
        for line in sample.splitlines():
            words = " ".join(line.split()[:5])[:40]
            if len(words) >= 8 and words.isprintable():
                return words
    return ""
