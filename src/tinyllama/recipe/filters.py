"""Document filters of a source: the expression in a recipe's `where`."""

from __future__ import annotations

import ast
import warnings
from typing import TYPE_CHECKING, Any

from tinyllama.text import shown

if TYPE_CHECKING:
    from collections.abc import Callable

_LONGEST = 10_000
"""Characters of an expression."""
_FUNCTIONS = {"len": len, "lower": lambda value: str(value).lower()}
_ALLOWED = (
    ast.Expression, ast.BoolOp, ast.And, ast.Or, ast.UnaryOp, ast.Not, ast.USub, ast.Compare, ast.Eq, ast.NotEq,
    ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.In, ast.NotIn, ast.Is, ast.IsNot, ast.Call, ast.Name, ast.Attribute,
    ast.Load, ast.Constant, ast.List, ast.Tuple,
)  # fmt: skip
_GRAMMAR = (
    "use names of fields (dots reach into nested ones), constants, lists, comparisons, in, and, or, not, "
    f"{', '.join(f'{name}(…)' for name in _FUNCTIONS)}"
)


class Filter:
    """An expression over a document's fields, e.g. `meta.set != "GitHub" and len(text) >= 200`.

    The syntax is a subset of Python expressions without side effects. A missing field is None.
    """

    def __init__(self, expression: str) -> None:
        """Parse an expression.

        Raises:
            ValueError: the text is not an expression, or uses syntax that is not allowed.
        """
        if len(expression) > _LONGEST:
            raise ValueError(f"{shown(expression)} has {len(expression)} characters; at most {_LONGEST} are possible")
        variables = _Variables()
        try:
            with warnings.catch_warnings(action="ignore"):  # of Python's about style, e.g. `is` before a text
                tree = ast.parse(expression.strip(), mode="eval")
                _refuse_other_syntax(tree, expression)
                self._code = compile(ast.fix_missing_locations(variables.visit(tree)), "where", "eval")
        except (RecursionError, MemoryError):  # Python's parser has a stack of its own
            raise ValueError(f"{shown(expression)} is nested too deeply; {_GRAMMAR}") from None
        except (SyntaxError, UnicodeEncodeError) as error:
            raise ValueError(f"{shown(expression)} is no expression ({error}); {_GRAMMAR}") from error
        self._names = variables.names

    @property
    def fields(self) -> frozenset[str]:
        """The fields that the expression uses."""
        return frozenset(self._names)

    def keeps(self, value_of: Callable[[str], Any]) -> bool:
        """Whether to keep a document.

        Args:
            value_of: returns the value of a field; None if the document does not have the field.

        Raises:
            ValueError: evaluation fails for these values, e.g. when a number is compared with None.
        """
        values = {variable: value_of(field) for field, variable in self._names.items()}
        try:
            # The code contains only nodes in `_ALLOWED`.
            return bool(eval(self._code, {"__builtins__": {}, **_FUNCTIONS}, values))  # noqa: S307  # see above
        except (TypeError, ValueError) as error:
            raise ValueError(f"`where` has no value here: {error}") from error


def _refuse_other_syntax(tree: ast.AST, expression: str) -> None:
    for node in ast.walk(tree):
        known = not isinstance(node, ast.Call) or (
            getattr(node.func, "id", None) in _FUNCTIONS and len(node.args) == 1 and not node.keywords
        )
        dotted = not isinstance(node, ast.Attribute) or isinstance(node.value, ast.Name | ast.Attribute)
        if not (isinstance(node, _ALLOWED) and dotted and known):
            raise ValueError(f"{shown(expression)}: {shown(ast.unparse(node))} does not belong there; {_GRAMMAR}")


class _Variables(ast.NodeTransformer):
    """Replaces each field, including dotted ones, with a plain variable."""

    def __init__(self) -> None:
        self.names: dict[str, str] = {}
        """Field → variable."""

    def visit_Call(self, node: ast.Call) -> ast.Call:  # the base class names it
        node.args = [self.visit(argument) for argument in node.args]
        return node

    def visit_Name(self, node: ast.Name) -> ast.Name:
        return self._variable(node.id)

    def visit_Attribute(self, node: ast.Attribute) -> ast.Name:
        return self._variable(ast.unparse(node))

    def _variable(self, field: str) -> ast.Name:
        return ast.Name(self.names.setdefault(field, f"field{len(self.names)}"), ast.Load())
