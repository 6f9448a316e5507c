"""A plan's summary as tables: cells for any kind of table, and Markdown."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.recipe.quantities import format_count
from tinyllama.text import MISSING, markdown_table, number

if TYPE_CHECKING:
    from tinyllama.plan.summary import PlanSummary, StageSummary

STAGE_HEADER = ("stage", "steps", "tokens", "until", "batch", "LR", "shares")
CORPUS_HEADER = ("corpus", "sequences", "tokens", "size", "epochs")


def stage_rows(summary: PlanSummary) -> list[tuple[str, ...]]:
    """Cells of the stages' table."""
    return [
        (
            stage.name,
            f"{stage.end_step - stage.first_step:,}",
            format_count(stage.tokens_after - stage.tokens_before),
            f"{stage.tokens_after:,}",
            f"{stage.batch_sequences:,} x {stage.batch_tokens // stage.batch_sequences:,} = {stage.batch_tokens:,}",
            f"{stage.first_lr:.3e} → {stage.last_lr:.3e}",
            _shares(stage),
        )
        for stage in summary.stages
    ]


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


def plan_markdown(summary: PlanSummary) -> str:
    """A plan's stages and corpora as Markdown tables."""
    stages = markdown_table(STAGE_HEADER, stage_rows(summary))
    return f"{stages}\n\n{markdown_table(CORPUS_HEADER, corpus_rows(summary))}"


def _shares(stage: StageSummary) -> str:
    parts = []
    for name, start in stage.shares_at_start.items():
        end = stage.shares_at_end[name]
        if start or end:
            parts.append(f"{name} {start:.4g}" if abs(start - end) < 1e-12 else f"{name} {start:.4g}→{end:.4g}")
    return ", ".join(parts)
