"""The base class of all recipe sections, and types of their values: names, paths and counts."""

from __future__ import annotations

import re
from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from tinyllama.recipe.quantities import Count, parse_count
from tinyllama.text import shown

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_LONGEST_NAME = 100
"""Characters; folders of exports and of partial files have longer names, and file systems allow 255."""
_DEVICES = re.compile(r"(?:con|prn|aux|nul|com[0-9]|lpt[0-9])(?:\..*)?", re.IGNORECASE)
"""Names that Windows reserves, with any suffix."""


def parse_name(value: object) -> object:
    """A name that can be a folder on any file system; anything but text is left to the next validator.

    Raises:
        ValueError: the text is no such name.
    """
    if not isinstance(value, str):
        return value
    if not _NAME.fullmatch(value):
        raise ValueError(f"{shown(value)} is no name; write letters, digits, `_`, `.` and `-`, first a letter or digit")
    if len(value) > _LONGEST_NAME:
        raise ValueError(f"{shown(value)} has {len(value)} characters; a name has at most {_LONGEST_NAME}")
    if value.endswith("."):
        raise ValueError(f"{shown(value)} ends with a period, which Windows removes from names; choose another name")
    if _DEVICES.fullmatch(value):
        raise ValueError(f"{shown(value)} is the name of a device on Windows; choose another name")
    return value


PositiveCount = Annotated[Count, Field(gt=0)]
Dimension = Annotated[Count, Field(gt=0, le=2**24)]
"""A dimension of the model; arrays of two of them have fewer than 2^63 elements."""
Name = Annotated[str, BeforeValidator(parse_name)]


def _path(text: str) -> str:
    if not text.strip() or "\0" in text:
        raise ValueError(f"{shown(text)} is no path; write one, or remove the key if it has a default")
    return text


PathText = Annotated[str, AfterValidator(_path)]
"""A path, pattern or address; the module that opens it knows whether it exists."""


def count_or(word: str, *words: str, most: int) -> BeforeValidator:
    """Let a key be a count from 1 to `most`, or one of some words."""
    choices = ", ".join([word, *words])

    def parse(value: object) -> object:
        if isinstance(value, str) and value in {word, *words}:
            return value
        try:
            count = parse_count(value)
        except ValueError as error:
            raise ValueError(f"{error}; or write {choices}") from None
        if not 0 < count <= most:
            raise ValueError(f"{shown(value)} must be at least 1 and at most {most}, or {choices}")
        return count

    return BeforeValidator(parse)


class WrongKey(ValueError):  # noqa: N818  # it is caught nowhere; Pydantic makes it part of its own error
    """A key that contradicts another one; for validators of whole sections, whose own place is their first line."""

    def __init__(self, message: str, *key: str | int) -> None:
        """Name the key relative to the section."""
        super().__init__(message)
        self.key = key


class Section(BaseModel):
    """A section with a fixed set of keys; the code reads each of them. An empty section has its keys' defaults."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _empty_has_defaults(cls, value: object) -> object:
        return {} if value is None else value


def section_of(annotation: object) -> type[BaseModel] | None:
    """The section class in a key's type (`Stage`, `list[Stage]`, `dict[str, Corpus]`, `X | None`), or None."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (section_of(argument) for argument in getattr(annotation, "__args__", ()))
    return next((section for section in found if section is not None), None)
