"""The page of a ladder: one file that needs nothing else, with the picture, the law, the prediction and the points."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tinyllama.files import write_atomic
from tinyllama.ladder.figure import ladder_figure
from tinyllama.recipe.quantities import format_count
from tinyllama.report.markup import Markup, element
from tinyllama.report.page import document

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tinyllama.ladder.record import LadderRecord, LawRecord

TITLE = "TinyLlama ladder"


def write_page(record: LadderRecord, figure: Path, page: Path) -> None:
    """Write the picture and the page of a ladder; neither, as long as its law is not fitted."""
    if record.law is None or record.prediction is None:
        return
    name = f"ladder of {record.goal.recipe}"
    picture = ladder_figure(record.goal, record.points, record.law.law(name), record.prediction)
    write_atomic(figure, picture)
    doubt = doubt_text(record.law)
    body = element(
        "body",
        element(
            "header",
            element("p", TITLE, class_="kicker"),
            element("h1", record.goal.recipe),
            element("p", prediction_text(record), class_="lead"),
        ),
        element(
            "main",
            element("section", element("div", picture, class_="scroll")),
            element("section", element("h2", "The law"), element("p", _law_lead(record.law), class_="lead"),
                    element("p", f"Doubt: {doubt}.", class_="lead") if doubt else None, _law_table(record.law)),
            element("section", element("h2", "The check"), element("p", check_text(record), class_="lead")),
            element("section", element("h2", "The points"), element("p", _points_lead(record), class_="lead"),
                    _points_table(record)),
        ),
    )  # fmt: skip
    write_atomic(page, document(f"{record.goal.recipe} · {TITLE}", 1, body))


_SUM = "E + A/N^alpha + B/D^beta (Hoffmann et al. 2022)"
_JOINT = "(A/N^alpha + B/D)^gamma (the form of Kaplan et al. 2020, equation 1.5)"


def _law_lead(law: LawRecord) -> str:
    taken, other = (_JOINT, _SUM) if law.is_joint else (_SUM, _JOINT)
    return (
        f"Held-out loss = {taken}, for N parameters (embeddings included) and D tokens, fitted as in Hoffmann et al. "
        f"2022, approach 3. It misses the points less than {other}, per point beyond its number of unknowns. The "
        "intervals below hold 90% of the bootstrap's replicas of this form; those of predictions, of replicas of both."
    )


def prediction_text(record: LadderRecord) -> str:
    """What is predicted, and how far off that was."""
    goal, found = record.goal, record.prediction
    if found is None:
        return "nothing is predicted yet"
    text = (
        f"{goal.model} of {goal.recipe}, {format_count(goal.parameters, 3)} parameters on "
        f"{format_count(goal.tokens, 3)} tokens: predicted held-out loss {found.loss:.4f} nats a token, from "
        f"{found.low:.4f} to {found.high:.4f} with 90%"
    )
    if found.measured is None or found.miss is None:
        return f"{text}; it is not trained yet"
    where = "inside" if found.is_inside else "outside"
    return f"{text}; measured {found.measured:.4f}: the prediction is off by {found.miss:+.2%}, {where} the interval"


def doubt_text(law: LawRecord) -> str:
    """Why a law predicts badly however narrow its interval is; empty if nothing is known against it."""
    if law.is_determined:
        return ""
    if law.form_share is None:
        return "the other form of the law was not fitted; `tinyllama ladder` again fits it, and trains nothing twice"
    if not law.is_form_sure:
        return (
            f"the rungs do not tell the two forms of the law apart ({1 - law.form_share:.0%} of the replicas have the "
            "other one), so the prediction may be by the wrong one; more rungs or a higher --compute may tell"
        )
    exponents = ", ".join(f"{name} from {low:.3g} to {high:.3g}" for name, (low, high) in law.exponents.items())
    return (
        f"the rungs do not determine the exponents ({exponents}), so the loss may well lie outside its "
        "interval; a higher --compute, or a recipe of more layers and more tokens per parameter, gives better rungs"
    )


def check_text(record: LadderRecord) -> str:
    """What the smaller rungs predict of the largest one."""
    found, last = record.largest_rung, record.points[-1]
    if found is None or found.measured is None or found.miss is None:
        return "too few rungs to predict the largest one from the others; --rungs 4 tests the law so"
    where = "inside" if found.is_inside else "outside"
    return (
        f"a law of the smaller rungs alone predicts {found.loss:.4f} for {last.rung} at "
        f"{format_count(last.tokens, 3)} tokens, from {found.low:.4f} to {found.high:.4f}; measured "
        f"{found.measured:.4f}: off by {found.miss:+.2%}, {where} the interval"
    )


def _points_lead(record: LadderRecord) -> str:
    shares = ", ".join(f"{corpus} {share:.4g}" for corpus, share in record.goal.shares.items())
    return f"Held-out losses in nats a token, the mean over the corpora by these shares: {shares}."


def _law_table(law: LawRecord) -> Markup:
    rows = [
        ("A", f"{law.parameters:.4g}", law.parameters_interval),
        ("B", f"{law.tokens:.4g}", law.tokens_interval),
        ("alpha", f"{law.alpha:.3f}", law.alpha_interval),
    ]
    if law.is_joint:
        rows.append(("gamma", f"{law.gamma:.3f}", law.gamma_interval))
    else:
        rows.append(("beta", f"{law.beta:.3f}", law.beta_interval))
        rows.insert(0, ("E, nats a token", f"{law.irreducible:.4g}", law.irreducible_interval))
    body = [(name, value, f"{low:.4g}", f"{high:.4g}") for name, value, (low, high) in rows]
    return _table(("", "fitted", "from", "to"), [*body, ("typical residual", f"{law.typical_error:.2%}", "", "")])


def _points_table(record: LadderRecord) -> Markup:
    law = record.law.law("") if record.law is not None else None
    rows = [
        (
            point.rung,
            f"{point.parameters:,}",
            f"{point.tokens:,}",
            f"{point.loss:.4f}",
            "" if law is None else f"{law.loss(point.parameters, point.tokens) / point.loss - 1:+.2%}",
        )
        for point in record.points
    ]
    return _table(("rung", "parameters", "tokens", "measured", "fit is off by"), rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> Markup:
    return element(
        "div",
        element(
            "table",
            element("thead", element("tr", [element("th", name) for name in header])),
            element("tbody", [element("tr", list(_cells(row))) for row in rows]),
        ),
        class_="scroll",
    )


def _cells(row: Sequence[str]) -> Iterator[Markup]:
    yield element("th", row[0], scope="row")
    yield from (element("td", value) for value in row[1:])
