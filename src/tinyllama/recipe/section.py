"""The base class of all recipe sections."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tinyllama.recipe.quantities import Count

PositiveCount = Annotated[Count, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Section(BaseModel):
    """A section with a fixed set of keys; the code reads each of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def section_of(annotation: object) -> type[BaseModel] | None:
    """The section class in a key's type (`Stage`, `list[Stage]`, `dict[str, Corpus]`, `X | None`), or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (section_of(argument) for argument in getattr(annotation, "__args__", ()))
    return next((section for section in found if section is not None), None)
