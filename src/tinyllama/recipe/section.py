"""What all sections of a recipe share."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from tinyllama.recipe.quantities import Count

PositiveCount = Annotated[Count, Field(gt=0)]
Name = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]


class Section(BaseModel):
    """Keys that are known, all of which the code reads."""

    model_config = ConfigDict(extra="forbid", frozen=True)
