"""A plan's summary as tables: cells for any kind of table, and Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.recipe.quantities import format_count
from tinyllama.text import MISSING, markdown_table, number

if TYPE_CHECKING:
    from tinyllama.plan.summary import PlanSummary, StageSummary

STAGE_HEADER = ("stage", "steps", "tokens", "until", "batch", "LR", "shares")
CORPUS_HEADER = ("corpus", "sequences", "tokens", "size", "epochs")
_LISTED = 6
"""Most checkpoints whose tokens are all named."""


def stage_rows(summary: PlanSummary) -> list[tuple[str, ...]]:
    """Cells of the stages' table."""
    return [
        (
            stage.name,
            f"{stage.end_step - stage.first_step:,}",
            format_count(stage.tokens_after - stage.tokens_before),
            f"{stage.tokens_after:,}",
            f"{stage.batch_sequences:,} x {stage.context:,} = {stage.batch_tokens:,}",
            f"{stage.first_lr:.3e} → {stage.last_lr:.3e}",
            _shares(stage),
        )
        for stage in summary.stages
    ]


def stage_notes(summary: PlanSummary) -> list[str]:
    """A sentence without its period for each stage with positions or a factor of the learning rate of its own."""
    notes = {
        stage.name: [
            *([stage.positions] if stage.positions else []),
            *([f"learning rate times {stage.learning_rate_factor:g}"] if stage.learning_rate_factor != 1 else []),
        ]
        for stage in summary.stages
    }
    return [f"stage {name}: {', '.join(found)}" for name, found in notes.items() if found]


def corpus_rows(summary: PlanSummary) -> list[tuple[str, ...]]:
    """Cells of the corpora's table."""
    return [
        (
            corpus.name,
            f"{corpus.sequences:,}",
            format_count(corpus.tokens),
            MISSING if corpus.size is None else format_count(corpus.size),
            number(corpus.epochs, 2),
        )
        for corpus in summary.corpora
    ]


def measurement_lines(summary: PlanSummary) -> list[str]:
    """How many checkpoints are evaluated during training, and at which tokens; a line for each kind."""
    kinds = (("get task scores", summary.scored_at), ("continue the prompts", summary.sampled_at))
    return [f"during training, {_checkpoints(tokens)} {what}: at {_listed(tokens)}" for what, tokens in kinds if tokens]


def _checkpoints(tokens: list[int]) -> str:
    return f"{len(tokens):,} checkpoints" if len(tokens) > 1 else "1 checkpoint"


def _listed(tokens: list[int]) -> str:
    """All of a few numbers of tokens, or else the first ones and the last."""
    texts = [format_count(count) for count in tokens]
    if len(texts) > _LISTED:
        texts = [*texts[: _LISTED - 1], "…", texts[-1]]
    return f"{', '.join(texts)} tokens"


def repetitions(summary: PlanSummary) -> list[str]:
    """A sentence for each corpus that sequences of another context read again."""
    return [
        f"{corpus.name}: about {format_count(corpus.met_again)} of its {format_count(corpus.tokens)} targets were met "
        "before, in sequences of another context"
        for corpus in summary.corpora
        if corpus.met_again
    ]


def plan_markdown(summary: PlanSummary) -> str:
    """A plan's stages and corpora as Markdown tables, and what is measured during training."""
    stages = markdown_table(STAGE_HEADER, stage_rows(summary))
    lines = [f"{line[0].upper()}{line[1:]}." for line in measurement_lines(summary)]
    notes = [f"{line[0].upper()}{line[1:]}." for line in stage_notes(summary)]
    again = [f"{sentence}." for sentence in repetitions(summary)]
    return "\n\n".join([stages, *notes, markdown_table(CORPUS_HEADER, corpus_rows(summary)), *again, *lines])


def _shares(stage: StageSummary) -> str:
    parts = []
    for name, start in stage.shares_at_start.items():
        end = stage.shares_at_end[name]
        if start or end:
            parts.append(f"{name} {start:.4g}" if abs(start - end) < 1e-12 else f"{name} {start:.4g}→{end:.4g}")
    return ", ".join(parts)
