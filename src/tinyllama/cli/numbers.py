"""Options that take a number: in the grammar of recipes, finite, within bounds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from collections.abc import Callable

_MOST = 2**31 - 1
"""What every library below can count to."""


def whole(text: str, *, least: int = 1, most: int = _MOST, metavar: str = "N") -> Any:  # noqa: ANN401  # as typer.Option
    """An option that is a whole number, such as `8`, `100K` or `1e6`."""
    return _option(text, "parse_count", least, most, metavar)


def real(text: str, *, least: float = 0.0, most: float = 1e9, metavar: str = "X") -> Any:  # noqa: ANN401  # as typer.Option
    """An option that is a finite number."""
    return _option(text, "parse_number", least, most, metavar)


def any_seed(text: str) -> Any:  # noqa: ANN401  # as typer.Option
    """An option that is a seed."""
    return _option(text, "parse_seed", -(2**63), 2**64 - 1, "N")


def _option(text: str, parse: str, least: float, most: float, metavar: str) -> Any:  # noqa: ANN401  # as typer.Option
    return typer.Option(metavar=metavar, help=text, parser=_parser(parse, least, most))


def _parser(parse: str, least: float, most: float) -> Callable[[object], float]:
    def parsed(value: object) -> float:
        from tinyllama.recipe import quantities  # imports pydantic

        try:
            number: float = getattr(quantities, parse)(value)
        except ValueError as error:
            raise typer.BadParameter(str(error)) from None
        if not least <= number <= most:
            raise typer.BadParameter(f"{value} is not from {least} to {most}")
        return number

    return parsed
