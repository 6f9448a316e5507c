"""`ladder.json`: the points of a ladder, the law that was fitted to them, and what it predicts."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from tinyllama.design.rules import LossFit
from tinyllama.design.scaling_fit import FEWEST_SIZES, MOST_EXPONENT, Trained, fit
from tinyllama.errors import ModelError
from tinyllama.record_files import FileRecord, read_record

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from tinyllama.design.rungs import Goal, Rung
    from tinyllama.design.scaling_fit import Interval, ScalingFit

_MOST_SPREAD, _LEAST_EXPONENT = 3, 0.05
"""Of a law that recommends sizes: between the ends of an exponent's interval, as a factor, and its lower end. Published
exponents are around 0.3 in the sum; in the joint form alpha is 0.7 and gamma 0.1."""
_LEAST_SHARE = 0.9
"""Of the replicas that have the law's form, below which the form is in doubt."""
_REMEDY = "move the file away, and run `tinyllama ladder` again, which trains nothing twice"


class PointRecord(FileRecord):
    """A finished branch of a rung."""

    rung: str
    """Name of the rung, which is also its folder."""
    model: str
    """Name of the branch in the rung's family."""
    parameters: int
    tokens: int
    loss: float
    """Held-out, in nats a token: the mean over the corpora by the predicted model's shares."""


class GoalRecord(FileRecord):
    """The model that is predicted."""

    recipe: str
    model: str
    parameters: int
    tokens: int
    flops: float
    shares: dict[str, float]
    """Corpus → its part in the loss: the shares at the model's end."""
    vocab_size: int | None = None
    """Number of ids of the tokenizer whose tokens the loss is of; None where an earlier version did not record it."""


class LawRecord(FileRecord):
    """The law E + (A/N^alpha + B/D^beta)^gamma in nats a token, each number with its interval.

    It is a sum with gamma 1, or joint with E 0 and beta 1 (`rules.LossFit`).
    """

    irreducible: float
    parameters: float
    tokens: float
    alpha: float
    beta: float
    irreducible_interval: tuple[float, float]
    parameters_interval: tuple[float, float]
    tokens_interval: tuple[float, float]
    alpha_interval: tuple[float, float]
    beta_interval: tuple[float, float]
    gamma: float = 1.0
    gamma_interval: tuple[float, float] = (1.0, 1.0)
    form_share: float | None = None
    """Part of the replicas that have this form, and not the other one; None in records of format 1, which knew one."""
    typical_error: float
    """Root mean square of the relative residuals, scaled up by what the unknowns take away."""
    smallest: int
    """Parameters of the smallest rung."""
    fewest: int
    """Tokens of the shortest branch."""

    def law(self, name: str) -> LossFit:
        """The law, to compute losses with."""
        numbers = self.irreducible, self.parameters, self.tokens, self.alpha, self.beta
        return LossFit(name, *numbers, self.smallest, self.fewest, gamma=self.gamma)

    @property
    def is_joint(self) -> bool:
        """Whether it has the form of Kaplan et al. 2020."""
        return self.gamma != 1

    @property
    def formula(self) -> str:
        """The law with its numbers."""
        of_size, of_length = f"{self.parameters:.4g} / N^{self.alpha:.3g}", f"{self.tokens:.4g} / D"
        if self.is_joint:
            return f"({of_size} + {of_length})^{self.gamma:.3g}"
        return f"{self.irreducible:.4g} + {of_size} + {of_length}^{self.beta:.3g}"

    @property
    def exponents(self) -> dict[str, tuple[float, float]]:
        """Name → interval of the fitted exponents."""
        last = {"gamma": self.gamma_interval} if self.is_joint else {"beta": self.beta_interval}
        return {"alpha": self.alpha_interval} | last

    @property
    def is_form_sure(self) -> bool:
        """Whether the rungs tell the two forms apart."""
        return self.form_share is not None and self.form_share >= _LEAST_SHARE

    @property
    def is_determined(self) -> bool:
        """Whether form and exponents are known well enough to trust the law beyond the rungs."""
        return self.is_form_sure and all(
            low > _LEAST_EXPONENT and high < min(MOST_EXPONENT, _MOST_SPREAD * low)
            for low, high in self.exponents.values()
        )


class PredictionRecord(FileRecord):
    """A predicted loss, and what was measured."""

    loss: float
    low: float
    """Lower end of the interval that holds the loss with a probability of 90%, if the law holds."""
    high: float
    measured: float | None = None
    """None if that model is not trained."""

    @property
    def miss(self) -> float | None:
        """Predicted minus measured, as a part of the measured loss; None if nothing was measured."""
        return None if self.measured is None else self.loss / self.measured - 1

    @property
    def is_inside(self) -> bool | None:
        """Whether the measured loss is in the interval; None if nothing was measured."""
        return None if self.measured is None else self.low <= self.measured <= self.high


class LadderRecord(FileRecord):
    """A ladder: what it predicts, from which trainings, and how far off it was."""

    FORMAT: ClassVar[int] = 2

    format: int = 2
    goal: GoalRecord
    rungs: int
    """Number of rungs, of which some may not be trained yet."""
    compute: float
    """Of all rungs together, as a part of the model's."""
    points: tuple[PointRecord, ...] = ()
    law: LawRecord | None = None
    """None until all rungs are trained."""
    prediction: PredictionRecord | None = None
    """Of the model's final held-out loss."""
    largest_rung: PredictionRecord | None = None
    """What the rungs below the largest one predict of its longest branch: a test of the method, which
    may take the other form for them. None for as few rungs as a fit needs."""


def read_ladder(path: Path) -> LadderRecord:
    """Read a `ladder.json`.

    Raises:
        FileNotFoundError: there is none.
        ModelError: it cannot be read, or a key is wrong.
    """
    return read_record(LadderRecord, path, ModelError, _REMEDY)


def begun(goal: Goal, rungs: Sequence[Rung], compute: float) -> LadderRecord:
    """The record of a ladder of which nothing is trained."""
    record = GoalRecord(
        recipe=goal.recipe.name,
        model=goal.model,
        parameters=goal.shape.parameters,
        tokens=goal.tokens,
        flops=goal.flops,
        shares={corpus: float(share) for corpus, share in goal.shares.items() if share},
        vocab_size=goal.shape.vocab_size,
    )
    return LadderRecord(goal=record, rungs=len(rungs), compute=compute)


def fitted(record: LadderRecord, points: Sequence[PointRecord], measured: float | None) -> LadderRecord:
    """The record with the law that was fitted to its points.

    Args:
        record: of the ladder.
        points: of all rungs, from the smallest.
        measured: the final loss of the predicted model, if it is trained.

    Raises:
        PlanError: there are too few points for a law, or a training diverged.
    """
    name = f"ladder of {record.goal.recipe}"
    found = fit(trained(points), name)
    return record.model_copy(
        update={
            "points": tuple(points),
            "law": _law(found),
            "prediction": _predicted(found, record.goal.parameters, record.goal.tokens, measured),
            "largest_rung": _backtest(points, name),
        }
    )


def _backtest(points: Sequence[PointRecord], name: str) -> PredictionRecord | None:
    """What the smaller rungs predict of the last point, if they suffice for a fit."""
    last = points[-1]
    smaller = [point for point in points if point.rung != last.rung]
    if len({point.rung for point in smaller}) < FEWEST_SIZES:
        return None
    return _predicted(fit(trained(smaller), name), last.parameters, last.tokens, last.loss)


def trained(points: Sequence[PointRecord]) -> list[Trained]:
    """Branches as trainings to fit a law to."""
    return [Trained(point.parameters, point.tokens, point.loss, f"{point.rung}, {point.model}") for point in points]


def _predicted(found: ScalingFit, parameters: int, tokens: int, measured: float | None) -> PredictionRecord:
    low, high = found.interval(parameters, tokens)
    return PredictionRecord(loss=found.law.loss(parameters, tokens), low=low, high=high, measured=measured)


def _law(found: ScalingFit) -> LawRecord:
    law, sure = found.law, found.intervals
    return LawRecord(
        irreducible=law.irreducible,
        parameters=law.parameters,
        tokens=law.tokens,
        alpha=law.alpha,
        beta=law.beta,
        irreducible_interval=_pair(sure.irreducible),
        parameters_interval=_pair(sure.parameters),
        tokens_interval=_pair(sure.tokens),
        alpha_interval=_pair(sure.alpha),
        beta_interval=_pair(sure.beta),
        gamma=law.gamma,
        gamma_interval=_pair(sure.gamma),
        form_share=found.form_share,
        typical_error=found.typical_error,
        smallest=law.smallest,
        fewest=law.fewest,
    )


def _pair(interval: Interval) -> tuple[float, float]:
    return interval.low, interval.high
