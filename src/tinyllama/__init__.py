"""TinyLlama: one recipe file in, an evaluated family of small Llama-compatible models out."""

__all__ = ["__version__"]

__version__ = "0.1.0"
