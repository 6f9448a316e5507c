"""The law of a finished ladder, for the command `size`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from tinyllama.errors import UserError
from tinyllama.ladder.record import read_ladder

if TYPE_CHECKING:
    from pathlib import Path

    from tinyllama.design.sizing import Budget


def by_ladder(budget: Budget, path: Path) -> Budget:
    """A budget whose losses are by the law of a ladder, for its tokenizer, and its sizes if that is sure enough.

    Args:
        budget: what a model may take.
        path: a `ladder.json`.

    Raises:
        UserError: there is none, its law is not fitted yet, or the budget has another number of ids.
        ModelError: it cannot be read, or a key is wrong.
    """
    try:
        record = read_ladder(path)
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; name the ladder.json in the folder of a ladder") from None
    if record.law is None:
        raise UserError(f"{path}: the ladder is not finished; run `tinyllama ladder` again, which resumes it")
    largest, most = max(each.parameters for each in record.points), max(each.tokens for each in record.points)
    fit = record.law.law(f"the ladder of {record.goal.recipe}")._replace(largest=largest, most=most)
    ids = record.goal.vocab_size
    if None not in {ids, budget.vocab_size} and ids != budget.vocab_size:
        raise UserError(
            f"--vocab-size {budget.vocab_size}: the law of {path} is of a tokenizer of {ids} ids, and losses a token "
            "of another one do not compare; leave one of the options out"
        )
    return replace(budget, fit=fit, is_optimal_by_fit=record.law.is_determined, vocab_size=budget.vocab_size or ids)
