"""The strings below the keys of a section, which Python itself does not keep."""

from __future__ import annotations

import ast
import inspect
import textwrap
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pydantic import BaseModel


def docstrings(section: type[BaseModel]) -> dict[str, str]:
    """The string below each attribute of a class, on one line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(section))).body
    found = {}
    for line, after in pairwise(definition.body if isinstance(definition, ast.ClassDef) else ()):
        match line, after:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found
