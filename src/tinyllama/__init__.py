"""TinyLlama: one recipe file in, an evaluated family of small Llama-compatible models out.

    from tinyllama import Family

    family = Family("nano")
    family.reproduce()

Names are imported when they are first used, so that `import tinyllama` takes no time.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tinyllama.family import Family
    from tinyllama.family.evaluate_model import evaluate
    from tinyllama.formats.open import open_model
    from tinyllama.inference.text import generate
    from tinyllama.plan import compile_plan
    from tinyllama.recipe import load_recipe

__all__ = ["Family", "__version__", "compile_plan", "evaluate", "generate", "load_recipe", "open_model"]

__version__ = "0.1.0"

_HOMES = {
    "Family": "family",
    "compile_plan": "plan",
    "evaluate": "family.evaluate_model",
    "generate": "inference.text",
    "load_recipe": "recipe",
    "open_model": "formats.open",
}
"""Public name → the module that it comes from."""


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
