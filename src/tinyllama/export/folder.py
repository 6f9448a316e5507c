"""Write a model as a Hugging Face folder that is complete and checked, or not there."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

from tinyllama.errors import ExportError
from tinyllama.export.parity import ParityResult, check_parity
from tinyllama.files import sha256_file, write_atomic, write_json
from tinyllama.folders import FolderKind, replaced_folder
from tinyllama.formats.huggingface.config import CONFIG, config_of_shape
from tinyllama.formats.huggingface.state_dict import write_weights
from tinyllama.layout import averaged
from tinyllama.recipe import dump_recipe
from tinyllama.record_files import FileRecord, read_record, write_record
from tinyllama.tokenizer.convert import write_transformers_files
from tinyllama.tokenizer.end_ids import GENERATION_CONFIG, end_ids_setting

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from pathlib import Path

    import torch
    from torch import Tensor

    from tinyllama.files import Json
    from tinyllama.recipe import ModelShape, Recipe
    from tinyllama.tokenizer.base import Tokenizer

RECORD = ".tinyllama.json"
_SMALL = 1 << 20
"""Bytes of the largest file that is hashed to recognize edits; people edit cards, settings and templates."""


def export_model(  # noqa: PLR0913  # the parts of an export
    weights: Mapping[str, Tensor],
    *,
    folder: Path,
    recipe: Recipe,
    name: str,
    tokenizer: Tokenizer,
    card: str,
    dtype: torch.dtype,
    shape: ModelShape | None = None,
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
        shape: of the model as far as it is trained; None for that of the finished model.

    Raises:
        ExportError: the folder is something else, cannot be written, or the check failed.
        CorpusError: the tokenizer is of a kind that other tools cannot read.
    """
    shape = recipe.final_shape(averaged(name)) if shape is None else shape
    if tokenizer.vocab_size > shape.vocab_size:
        raise ExportError(
            f"{tokenizer.model_file}: has {tokenizer.vocab_size} tokens, more than the {shape.vocab_size} "
            f"that {recipe.name}'s model {name} was trained with; give the tokenizer of its corpora"
        )
    with export_folder(folder, HUGGING_FACE_EXPORT) as partial:
        ids = {"bos_id": tokenizer.bos_id, "eos_id": tokenizer.eos_id}
        write_json(partial / CONFIG, config_of_shape(shape, dtype=dtype, **ids))
        write_json(partial / GENERATION_CONFIG, _generation_config(tokenizer))
        write_weights(weights, shape, partial, dtype)
        write_transformers_files(tokenizer.model_file, partial, context=shape.context)
        write_atomic(partial / "recipe.yaml", dump_recipe(recipe))
        result = check_parity(weights, shape, partial, dtype)
        write_atomic(partial / "README.md", card.rstrip("\n") + "\n\n" + _parity_section(result, dtype))
    return result


class ExportRecord(FileRecord):
    """The hidden file in an export by which its edited files are recognized."""

    format: int = 1
    files: list[str]
    """Names of all files of the export."""
    sha256: dict[str, str]
    """SHA-256 of each small file, by name."""


@contextmanager
def export_folder(folder: Path, kind: FolderKind) -> Iterator[Path]:
    """Yield a temporary folder that replaces `folder` when the block succeeds; files that no export wrote stay.

    Args:
        folder: new, or of this kind.
        kind: of the export.

    Raises:
        ExportError: `folder` holds something else, or an edited file of an earlier export; or cannot be written.
    """
    _refuse_edited(folder)
    try:
        with replaced_folder(folder, kind, ExportError) as partial:
            yield partial
            _record_small_files(partial)
    except OSError as error:
        hint = "" if error.errno else "; the disk may be full"  # numpy says only how much it wrote
        raise ExportError(f"{folder}: the export cannot be written: {error}{hint}") from error


def _record_small_files(folder: Path) -> None:
    files = sorted(folder.iterdir())
    hashes = {path.name: sha256_file(path) for path in files if path.stat().st_size <= _SMALL}
    write_record(folder / RECORD, ExportRecord(files=[path.name for path in files], sha256=hashes))


def recorded_export(folder: Path) -> ExportRecord:
    """The record of the export in a folder; an empty one if there is none, or an earlier version wrote it."""
    if not (folder / RECORD).is_file():
        return ExportRecord(files=[], sha256={})
    return read_record(ExportRecord, folder / RECORD, ExportError, "delete it and export again")


def _refuse_edited(folder: Path) -> None:
    """Refuse to replace an export whose files a person has edited since."""
    for name, sha256 in recorded_export(folder).sha256.items():
        if (folder / name).is_file() and sha256_file(folder / name) != sha256:
            raise ExportError(
                f"{folder / name}: was edited after the export, which would overwrite it; move it away, then run the "
                "same command again"
            )


def is_checked_export(folder: Path) -> bool:
    """Whether a folder is an export of this or an earlier version: its card tells of the check that we make."""
    try:
        return "\n## Check of this folder\n\nBefore this folder appeared, " in (folder / "README.md").read_text("utf-8")
    except (OSError, UnicodeDecodeError):
        return False


HUGGING_FACE_EXPORT = FolderKind(
    "an earlier export",
    (
        CONFIG, GENERATION_CONFIG, "model.safetensors", "model-*.safetensors", "model.safetensors.index.json",
        "tokenizer.model", "tokenizer.json", "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
        "recipe.yaml", "README.md", RECORD,
    ),
    is_checked_export,
    alone=True,
)  # fmt: skip


def _generation_config(tokenizer: Tokenizer) -> dict[str, Json]:
    """The ids that begin and end a text; how to sample is the caller's choice."""
    return {"bos_token_id": tokenizer.bos_id, "eos_token_id": end_ids_setting(tokenizer.end_ids)}


def _parity_section(result: ParityResult, dtype: torch.dtype) -> str:
    stored = str(dtype).removeprefix("torch.")
    return (
        "## Check of this folder\n\n"
        f"Before this folder appeared, transformers {result.transformers_version} loaded it, and its logits "
        f"were compared with those of the trained model (weights as stored, {stored}; computed in fp32 on a "
        f"CPU) at {result.tokens} positions, each over the whole vocabulary: the largest difference is "
        f"{result.largest_difference:.2g}, where {result.tolerance:.2g} is allowed.\n"
    )
