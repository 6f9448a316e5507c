"""What `tinyllama watch` shows: the tree of models, then what each model that has begun did last."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from rich.console import Group
from rich.text import Text
from rich.tree import Tree

from tinyllama.recipe.quantities import format_count

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tinyllama.monitor import FamilyStatus, ModelStatus

_BAR = 20
"""Characters of a bar."""
_GUIDE = 4
"""Characters by which a branch of the tree is indented."""
_STYLES = {"done": "green", "training": "cyan", "starting": "cyan", "failed": "red", "killed": "red"}


def render(status: FamilyStatus) -> Group:
    """The whole picture, at most 80 characters wide unless reasons are long."""
    done = sum(model.state == "done" for model in status.models)
    head = Text(f"{status.family} · {status.folder} · {done} of {len(status.models)} models done", "bold")
    if status.seconds_left is not None:
        head.append(f" · {duration(status.seconds_left)} left")
    parts: list[Text | Tree] = [head, _tree(status.models)]
    for model in status.models:
        if model.state in {"training", "silent", "stopped", "killed", "failed"}:
            parts += [Text(), *_details(model)]
    if not status.is_live and done < len(status.models):
        parts += [Text(), Text("nothing trains here now; `tinyllama train` with the same recipe begins or resumes")]
    return Group(*parts)


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3:07:00` or `2 days, 3:07:00`."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else str(timedelta(minutes=round(seconds / 60)))


def _tree(models: list[ModelStatus]) -> Tree:
    """The models below those that they fork from; one whose parent is not shown is a root."""
    root = Tree("", hide_root=True)
    branches: dict[str | None, Tree] = {}
    indents: dict[str | None, int] = {}
    for model in models:
        indents[model.model] = indents.get(model.parent, -_GUIDE) + _GUIDE
    width = max(len(model.model) + indents[model.model] for model in models)
    for model in models:
        name = model.model.ljust(width - indents[model.model])
        branches[model.model] = branches.get(model.parent, root).add(_line(model, name))
    return root


def _line(model: ModelStatus, name: str) -> Text:
    filled = round(_BAR * model.fraction)
    text = Text(f"{name}  ")
    text.append("━" * filled, "green" if model.state == "done" else "cyan").append("━" * (_BAR - filled), "dim")
    percent = "" if model.state in {"waiting", "done"} else f" {100 * model.fraction:.0f}%"
    text.append("  ").append(f"{model.state}{percent}", _STYLES.get(model.state, ""))
    own, end = model.tokens - model.first_tokens, model.last_tokens - model.first_tokens
    return text.append(f"  {_tokens(own)}/{_tokens(end)} tokens" if own else f"  {_tokens(end)} tokens")


def _details(model: ModelStatus) -> Iterator[Text]:
    """Lines about a model that has begun and is not done."""
    last = model.last
    stage = "" if last is None else f" · stage {last.stage}"
    yield Text(
        f"{model.model}{stage} · step {model.step:,} of {model.steps:,} · "
        f"{_tokens(model.tokens)} of {_tokens(model.last_tokens)} tokens", "bold"
    ).append("" if model.seconds_left is None else f" · {duration(model.seconds_left)} left")  # fmt: skip
    if model.state != "training":
        yield Text(f"  {model.state}{_since(model)}", _STYLES.get(model.state, "yellow"))
    if last is not None:
        yield Text(
            f"  loss {last.loss:.3f} · lr {last.lr:.2e} · gradient norm {last.grad_norm:.3g} · batch {last.batch}"
        )
        memory = "" if last.memory is None else f" · memory {last.memory / 2**30:.1f} GiB"
        yield Text(f"  {model.tokens_per_second or 0:,.0f} tokens/s · MFU {last.mfu:.0%}{memory}")
    if model.held_out is not None:
        losses = ", ".join(f"{corpus} {loss:.3f}" for corpus, loss in model.held_out.losses.items())
        yield Text(f"  held-out loss at {_tokens(model.held_out.tokens)}: {losses}")
    if model.checkpoint is not None and model.checkpoint_seconds is not None:
        yield Text(f"  checkpoint of step {model.checkpoint:,}, {duration(model.checkpoint_seconds)} ago")
    if model.last_spike is not None:
        yield Text(f"  spikes: {model.spikes}, the last at step {model.last_spike:,}", "yellow")
    if model.overflows:
        yield Text(f"  fp16 overflows: {model.overflows}", "yellow")


def _since(model: ModelStatus) -> str:
    """When the last record was written, and what ended training."""
    age = "" if model.silent_seconds is None else f"; the last record is {duration(model.silent_seconds)} old"
    if model.state == "killed":
        return f": its process is gone without a word{age}"
    if model.state == "silent":
        return f": nobody tells whether it trains{age}"
    return f": {model.reason}{age}"


def _tokens(count: int) -> str:
    return format_count(count)
