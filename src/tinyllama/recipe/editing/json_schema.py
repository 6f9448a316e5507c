"""The JSON schema of recipe files, with which editors complete, explain and check keys.

It describes what people write, such as `1.5T` or `75%`, where Pydantic's own would describe what the code reads. It
accepts every valid recipe. What depends on several keys, or on the text of a value, is checked when a recipe is loaded.
"""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, cast

from pydantic.json_schema import GenerateJsonSchema

from tinyllama.recipe import quantities, section
from tinyllama.recipe.classification import Derived, marker
from tinyllama.recipe.editing.docstrings import docstrings
from tinyllama.recipe.loading import IMPORTED, REPLACED
from tinyllama.recipe.schema import Recipe
from tinyllama.recipe.section import section_of
from tinyllama.recipe.shape import ModelShape

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import BaseModel
    from pydantic.json_schema import JsonSchemaValue
    from pydantic_core import core_schema

    from tinyllama.files import Json


def _any_case(words: str) -> str:
    """A pattern for words in any case; JSON Schema's patterns have no flags."""
    letters = (f"[{letter}{letter.upper()}]" if letter.isalpha() else letter for letter in words)
    return "".join(letters)


def _written(pattern: str, example: str, *kinds: str) -> JsonSchemaValue:
    """What people write: a YAML value of some kinds, or text of a pattern; editors show the example."""
    return {
        "type": [*kinds, "string"],
        "pattern": rf"^\s*({pattern})\s*$",
        "patternErrorMessage": f"write it like {example}",
    }


_NUMBER = r"[+-]?[0-9_]*\.?[0-9_]*([eE][+-]?[0-9]+)?"
_COUNTS = rf"\+?([0-9]{{1,3}}(,[0-9]{{3}})+|{_NUMBER})\s*[KMBTkmbt]?"
_COUNT = _written(_COUNTS, "1500000, 1.5M or 2T", "integer")
_SHARE = _written(rf"{_NUMBER}\s*%|[0-9]+\s*/\s*[0-9]+", "75% or 1/3")
_WRITTEN: dict[object, JsonSchemaValue] = {
    quantities.parse_count: _COUNT,
    quantities.parse_seed: _written(_NUMBER, "1", "integer"),
    quantities.parse_number: _written(_NUMBER, "0.1 or 4e-4", "number"),
    quantities.parse_share: _SHARE,
    quantities.parse_batch: _written(rf"{_COUNTS}(\s*[sS]equences?)?", "880 sequences or 1802240", "integer"),
    quantities.parse_flag: _written(_any_case("yes|no|on|off|true|false"), "true or false", "boolean"),
    section.parse_name: {"type": ["string", "number", "boolean"]},
}
"""What people write for the functions that read it."""
_BOUNDS = {"gt": "exclusiveMinimum", "ge": "minimum", "lt": "exclusiveMaximum", "le": "maximum"}
"""Pydantic's names, which it leaves in place on what a function reads; they apply to numbers alone."""


def recipe_json_schema() -> dict[str, Json]:
    """The schema, of JSON Schema 2020-12."""
    schema = Recipe.model_json_schema(by_alias=True, schema_generator=_Generator)
    definitions = schema["$defs"]
    for model in _sections(Recipe):
        _describe(definitions.get(model.__name__, schema), model)
    needed = _take_required(Recipe, schema, definitions)
    schema["properties"]["extends"] = {
        "type": "string",
        "description": "Name or path of the recipe that this one extends.",
    }
    shape = definitions["ModelShape"]
    shape["properties"][IMPORTED] = {"const": True, "description": "Whether the shape is that of `start.model`."}
    shape |= {"type": [*shape["type"], "string"], "if": {"type": "string"}, "then": {"const": IMPORTED}}
    schema |= {
        "$schema": GenerateJsonSchema.schema_dialect,
        # A recipe that extends another one may leave every key out.
        "if": {"not": {"required": ["extends"]}},
        "then": needed,
    }
    return cast("dict[str, Json]", schema)


class _Generator(GenerateJsonSchema):
    """Describes quantities as they are written."""

    def function_before_schema(self, schema: core_schema.BeforeValidatorFunctionSchema) -> JsonSchemaValue:
        """The schema of what a function reads."""
        function = schema["function"]["function"]
        if function in _WRITTEN:
            return dict(_WRITTEN[function])
        read = super().function_before_schema(schema)
        if (word := getattr(function, "__qualname__", "")).startswith("count_or."):
            return {"anyOf": [_COUNT, *(choice for choice in read["anyOf"] if choice.get("type") != "integer")]}
        return {"anyOf": [*read["anyOf"], _SHARE]} if word == "_of_the_horizon" else read

    def str_schema(self, schema: core_schema.StringSchema) -> JsonSchemaValue:
        """A text; YAML's own types see a number in `description: 2024`, which loading reads as it is written."""
        return super().str_schema(schema) | {"type": ["string", "number", "boolean"]}

    def encode_default(self, dft: object) -> object:
        """A default as a recipe would have it."""
        return quantities.format_share(dft) if isinstance(dft, Fraction) else super().encode_default(dft)


def _sections(outer: type[BaseModel]) -> Iterator[type[BaseModel]]:
    """A section, and all inside it."""
    yield outer
    for field in outer.model_fields.values():
        if (inner := section_of(field.annotation)) is not None:
            yield from _sections(inner)


def _describe(definition: JsonSchemaValue, model: type[BaseModel]) -> None:
    """Give each key of a section its docstring and its bounds; a section without required keys may be empty."""
    texts = docstrings(model)
    for name, field in model.model_fields.items():
        stated = definition["properties"][field.alias or name]
        stated.pop("title", None)
        stated |= {"description": texts[name]}
        for part in (stated, *stated.get("anyOf", ()), *stated.get("prefixItems", ())):
            part |= {name: part.pop(bound) for bound, name in _BOUNDS.items() if bound in part}
    if not definition.get("required"):
        definition["type"] = ["object", "null"]


def _take_required(
    model: type[BaseModel], definition: JsonSchemaValue, definitions: JsonSchemaValue
) -> JsonSchemaValue:
    """Remove the required keys of a section and of those inside it that merge; the schema that states them.

    Sections that replace those of the extended recipe keep theirs.
    """
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    stated = [key for key in definition.pop("required", []) if marker(fields[key], Derived) is None]
    needed: JsonSchemaValue = {"required": stated}
    definition["type"] = ["object", "null"]  # an empty section changes nothing
    for name, field in model.model_fields.items():
        inner, key = section_of(field.annotation), field.alias or name
        if inner is None or key in REPLACED or not _is_one(definition["properties"][key], inner):
            continue
        deeper = _take_required(inner, definitions[inner.__name__], definitions)
        if deeper != {"required": []}:
            needed.setdefault("properties", {})[key] = deeper
    return needed if model is not ModelShape else {"if": {"required": [IMPORTED]}, "else": needed}


def _is_one(stated: JsonSchemaValue, model: type[BaseModel]) -> bool:
    """Whether a key holds one section, not a list or a mapping of sections."""
    reference = f"#/$defs/{model.__name__}"
    return reference in {part.get("$ref") for part in (stated, *stated.get("anyOf", ()))}
