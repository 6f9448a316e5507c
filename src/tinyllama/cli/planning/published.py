"""A plan beside published rules: its tokens per parameter, its peak learning rate and its batch."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from tinyllama.design import rules
from tinyllama.plan.hardware import checkpoint_bytes
from tinyllama.recipe.quantities import format_count

if TYPE_CHECKING:
    from tinyllama.files import Json
    from tinyllama.plan import PlanSummary
    from tinyllama.recipe import Recipe


@dataclass(frozen=True)
class Published:
    """What published rules say of a model and its training, and what the recipe has."""

    tokens_per_parameter: float
    optimal_tokens_per_parameter: float
    flops_without_embeddings: float
    """Training FLOPs as DeepSeek LLM counts them."""
    fitted_peak: float | None
    """Peak of the learning rate by its fit; None where the fit is of other trainings."""
    fitted_batch_tokens: float
    checkpoint_bytes: int

    def as_dict(self) -> dict[str, Json]:
        """Plain data for JSON."""
        return asdict(self)


def compare_with_published(summary: PlanSummary, recipe: Recipe) -> Published:
    """What published rules say of a plan.

    Args:
        summary: of the plan.
        recipe: from which it was compiled.
    """
    recipe = recipe.line(summary.variant)
    flops = float(sum(
        (stage.tokens_after - stage.tokens_before)
        * recipe.model.model_copy(update={"context": stage.context}).flops_without_embeddings
        for stage in summary.stages
    ))  # fmt: skip
    parameters = summary.parameters
    return Published(
        tokens_per_parameter=summary.tokens / parameters,
        optimal_tokens_per_parameter=rules.optimal_tokens(parameters) / parameters,
        flops_without_embeddings=flops,
        fitted_peak=None if _beyond_fit(recipe) else rules.peak_learning_rate(flops),
        fitted_batch_tokens=rules.batch_tokens(flops),
        checkpoint_bytes=checkpoint_bytes(recipe),
    )


def _beyond_fit(recipe: Recipe) -> str:
    """Why the fit says nothing about a recipe's peak; empty if it does."""
    schedule = recipe.optimizer.learning_rate.schedule
    if recipe.parametrization == "mup":
        return "muP, whose peak does not depend on the size"
    if recipe.start is not None:
        return "a training that continues another"
    return "" if schedule in {"cosine", "piecewise"} else f"the schedule {schedule}"


def tokens_line(found: Published) -> str:
    """The tokens per parameter, beside those that are compute-optimal."""
    optimal = found.optimal_tokens_per_parameter
    times = found.tokens_per_parameter / optimal
    return (
        f"tokens per parameter: {_number(found.tokens_per_parameter)} ({_number(times)} times the compute-optimal "
        f"{_number(optimal)})"
    )


def fit_line(found: Published, summary: PlanSummary, recipe: Recipe) -> str:
    """The peak and the batch of DeepSeek LLM's fit, beside those of the recipe's longest stage."""
    recipe = recipe.line(summary.variant)
    peak = f"{recipe.optimizer.learning_rate.peak:.1e}"
    batch = max(summary.stages, key=lambda stage: stage.tokens_after - stage.tokens_before).batch_tokens
    own, fitted = format_count(batch, 2), f"{format_count(round(found.fitted_batch_tokens), 2)} tokens"
    begin = f"for {found.flops_without_embeddings:.1e} FLOPs without embeddings, DeepSeek's fit gives"
    if found.fitted_peak is None:
        return (
            f"{begin} a batch of {fitted} (the recipe: {own}); its peak is not for {_beyond_fit(recipe)} "
            f"(the recipe: {peak})"
        )
    return f"{begin} a peak of {found.fitted_peak:.1e} and a batch of {fitted} (the recipe: {peak}, {own})"


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 else f"{value:.2g}"
