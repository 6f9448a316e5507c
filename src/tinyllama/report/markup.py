"""HTML built from nested calls, so that all text is escaped when it enters the page."""

from __future__ import annotations

from collections.abc import Iterable
from html import escape

_VOID = {"br", "meta"}


class Markup(str):
    """Text that is already HTML."""

    __slots__ = ()


Child = str | None | Iterable["Child"]


def element(tag: str, *children: Child, **attributes: str | float | bool | None) -> Markup:
    """One element: `element("p", "a < b", class_="note")` → `<p class="note">a &lt; b</p>`.

    Children are escaped unless they are `Markup`; lists are flattened and None is skipped. In attribute names, a
    trailing underscore is dropped and other underscores become hyphens. True gives a bare attribute; None and False
    give no attribute.
    """
    opening = Markup("".join([tag, *(_attribute(name, value) for name, value in attributes.items())]))
    if tag in _VOID:
        return Markup(f"<{opening}>")
    return Markup(f"<{opening}>{join(*children)}</{tag}>")


def join(*children: Child) -> Markup:
    """Concatenate children."""
    return Markup("".join(_render(child) for child in children))


def _render(child: Child) -> str:
    if child is None:
        return ""
    if isinstance(child, Markup):
        return child
    return escape(child, quote=False) if isinstance(child, str) else join(*child)


def _attribute(name: str, value: str | float | bool | None) -> str:  # noqa: FBT001  # an attribute's value
    if value is None or value is False:
        return ""
    spelled = name.removesuffix("_").replace("_", "-")
    return f" {spelled}" if value is True else f' {spelled}="{escape(str(value))}"'
