"""Write a model as a Hugging Face folder that is complete and checked, or not there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tinyllama.errors import ExportError
from tinyllama.export.parity import ParityResult, check_parity
from tinyllama.files import new_directory, write_atomic, write_json
from tinyllama.formats.huggingface.config import CONFIG, config_of_shape
from tinyllama.formats.huggingface.state_dict import write_weights
from tinyllama.recipe import dump_recipe
from tinyllama.tokenizer.convert import write_transformers_files

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from tinyllama.files import Json
    from tinyllama.recipe import Recipe
    from tinyllama.tokenizer.base import Tokenizer


def export_model(  # noqa: PLR0913  # the parts of an export
    weights: Mapping[str, Tensor],
    *,
    folder: Path,
    recipe: Recipe,
    name: str,
    tokenizer: Tokenizer,
    card: str,
    dtype: torch.dtype,
) -> ParityResult:
    """Export a model to `folder`, which appears only when it is complete and has passed its check.

    It holds config.json, generation_config.json, the weights as safetensors, the tokenizer's files, recipe.yaml, and
    README.md: `card` with the result of the check. An earlier export at `folder` is replaced at that moment. The
    check loads the folder with transformers and compares logits, see `parity.check_parity`.

    Args:
        weights: by our names, e.g. a model's state or a checkpoint's `CheckpointWeights`; read one at a time.
        folder: where the export goes; new, empty, or an earlier export.
        recipe: the family's.
        name: the model's in the family: `base` or a variant.
        tokenizer: that the corpora were tokenized with.
        card: the model card, from `model_card`.
        dtype: of the stored weights. torch.float32 keeps the master weights as trained, whatever precision
            the products were computed in; torch.bfloat16 halves the folder at the cost of rounding.

    Raises:
        ExportError: the folder is something else, cannot be written, or the check failed.
        CorpusError: the tokenizer is of a kind that other tools cannot read.
    """
    shape = recipe.model
    if tokenizer.vocab_size > shape.vocab_size:
        raise ExportError(
            f"{tokenizer.model_file}: has {tokenizer.vocab_size} tokens, more than the {shape.vocab_size} "
            f"that {recipe.name}'s model {name} was trained with; give the tokenizer of its corpora"
        )
    ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
    with export_folder(folder, CONFIG) as partial:
        write_json(partial / CONFIG, config_of_shape(shape, dtype=dtype, **ids))
        write_json(partial / "generation_config.json", _generation_config(**ids))
        write_weights(weights, shape, partial, dtype)
        write_transformers_files(tokenizer.model_file, partial, context=shape.context)
        write_atomic(partial / "recipe.yaml", dump_recipe(recipe))
        result = check_parity(weights, shape, partial, dtype)
        write_atomic(partial / "README.md", card.rstrip("\n") + "\n\n" + _parity_section(result, dtype))
    return result


@contextmanager
def export_folder(folder: Path, mark: str) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` when the block succeeds.

    Args:
        folder: new, empty, or an earlier export.
        mark: a file that every earlier export of this kind holds.

    Raises:
        ExportError: `folder` holds something else, or cannot be written.
    """
    if folder.exists() and not _is_replaceable(folder, mark):
        raise ExportError(f"{folder}: exists and is not an earlier export; give another folder or remove it")
    try:
        with new_directory(folder) as partial:
            yield partial
    except OSError as error:
        hint = "" if error.errno else "; the disk may be full"  # numpy says only how much it wrote
        raise ExportError(f"{folder}: the export cannot be written: {error}{hint}") from error


def _is_replaceable(folder: Path, mark: str) -> bool:
    """Whether replacing the folder deletes nothing that an export did not write."""
    return folder.is_dir() and ((folder / mark).is_file() or not any(folder.iterdir()))


def _generation_config(bos_id: int, eos_id: int) -> dict[str, Json]:
    """The ids that begin and end a text; how to sample is the caller's choice."""
    return {"bos_token_id": bos_id, "eos_token_id": eos_id}


def _parity_section(result: ParityResult, dtype: torch.dtype) -> str:
    stored = str(dtype).removeprefix("torch.")
    return (
        "## Check of this folder\n\n"
        f"Before this folder appeared, transformers {result.transformers_version} loaded it, and its logits "
        f"were compared with those of the trained model (weights as stored, {stored}; computed in fp32 on a "
        f"CPU) at {result.tokens} positions, each over the whole vocabulary: the largest difference is "
        f"{result.largest_difference:.2g}, where {result.tolerance:.2g} is allowed.\n"
    )
