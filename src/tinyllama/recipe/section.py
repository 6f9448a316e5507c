"""What all sections of a recipe share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tinyllama.recipe.quantities import Count

PositiveCount = Annotated[Count, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Section(BaseModel):
    """A section of known keys; the code reads each of them."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def section_of(annotation: object) -> type[BaseModel] | None:
    """The section class inside a key's type: `Stage`, `list[Stage]`, `dict[str, Corpus]` or `X | None`; else None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (section_of(argument) for argument in getattr(annotation, "__args__", ()))
    return next((section for section in found if section is not None), None)
