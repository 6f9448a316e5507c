"""A model as a folder for llama.cpp and Ollama: a GGUF file, a Modelfile and a card, checked before it appears."""

from __future__ import annotations

from glob import escape
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import torch
import yaml

from tinyllama.errors import ExportError
from tinyllama.export.folder import RECORD, export_folder, is_checked_export, recorded_export
from tinyllama.export.parity import ParityResult, check_parity, our_model
from tinyllama.export.quantized import QUANTIZATION, HeldOutText, QuantizationRecord, check_request, quantize
from tinyllama.files import write_atomic
from tinyllama.folders import FolderKind
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.formats.gguf.quantizer import QUANTIZED
from tinyllama.formats.gguf.tensors import GgufWeights, shape_of_gguf
from tinyllama.formats.gguf.writer import FILE_TYPES, ModelInfo, write_gguf
from tinyllama.record_files import write_record
from tinyllama.tokenizer.opening import open_tokenizer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from tinyllama.formats.model_source import OpenModel
    from tinyllama.recipe import ModelShape
    from tinyllama.tokenizer.base import Tokenizer

MODELFILE = "Modelfile"
GGUF_TYPES = (*FILE_TYPES, *QUANTIZED)
"""How the matrices of a GGUF file may be stored."""
_EXACT = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16}
_Q8_ERROR = 1 / 127
"""Bound of |stored - original| over a block's largest magnitude: half a step of 1/127, and as much again for the
rounding of the block's scale to fp16 and of the steps themselves."""
_Q8_TINY = 127 * 2.0**-25
"""The same for blocks so small that their scale is a subnormal of fp16: half its spacing, times the largest step."""


def export_gguf(  # noqa: PLR0913  # the parts of an export
    weights: Mapping[str, Tensor],
    *,
    shape: ModelShape,
    tokenizer: Tokenizer,
    folder: Path,
    kind: str,
    about: ModelInfo,
    text: HeldOutText | None = None,
) -> ParityResult | QuantizationRecord:
    """Export a model as `<name>-<kind>.gguf` with a Modelfile for Ollama and a README.

    Checks come before the folder appears. What the file holds, read back, is what was given (exactly, or within the
    rounding of Q8_0); and transformers, reading the file by its own code, computes the logits that we compute from
    it. A type that llama.cpp's quantizer writes has another check: on held-out text, the KL divergence of what
    llama.cpp computes from the F32 model is below the type's limit. The folder has `quantization.json` with the result.

    Args:
        weights: by our names; read one at a time.
        shape: the model's.
        tokenizer: the model's.
        folder: where the export goes; new, empty, or an earlier export.
        kind: one of `GGUF_TYPES`.
        about: name and license, for file and card.
        text: for the types that llama.cpp's quantizer writes.

    Raises:
        ExportError: the folder is something else, cannot be written, or a check failed; llama.cpp is needed and not
            installed.
        CorpusError: llama.cpp does not know tokenizers of this kind.
    """
    name = f"{about.name}-{kind}.gguf"
    held_out = check_request(kind, text) if kind in QUANTIZED else None
    with export_folder(folder, _kind(folder, name)) as partial:
        written = "F32" if held_out else kind
        write_gguf(weights, shape, tokenizer, partial / name, written, about)
        stored = _read_back(partial / name, shape, weights, written)
        result: ParityResult | QuantizationRecord
        if held_out is None:
            result = check_parity(stored, stored.shape, partial / name, torch.float32)
        else:
            result = quantize(partial / name, kind, our_model(shape, weights, torch.float32), tokenizer, held_out)
            write_record(partial / QUANTIZATION, result)
        write_atomic(partial / MODELFILE, modelfile(name, shape, tokenizer))
        write_atomic(partial / "README.md", _card(name, kind, shape, about, result))
    return result


def _read_back(path: Path, shape: ModelShape, weights: Mapping[str, Tensor], kind: str) -> GgufWeights:
    """What a file holds, compared with what was given."""
    file = GgufFile(path)
    stored_shape = shape_of_gguf(file)
    if stored_shape.in_fp32 != shape.in_fp32:
        raise ExportError(f"{path.name}: reads back as another shape than was written: {stored_shape}")
    stored = GgufWeights(file, stored_shape)
    _compare_weights(stored, weights, kind)
    return stored


def _kind(folder: Path, name: str) -> FolderKind:
    """Exports with a GGUF file of this name; other GGUF files that an export did not write are left alone."""
    earlier = [escape(file) for file in recorded_export(folder).files]
    names = (escape(name), *earlier, MODELFILE, QUANTIZATION, "README.md", RECORD)
    return FolderKind("an earlier export", names, is_checked_export, alone=True)


def convert_to_gguf(
    source: OpenModel, folder: Path, kind: str, text: HeldOutText | None = None
) -> ParityResult | QuantizationRecord:
    """Export any model that `open_model` opens as a folder with a GGUF file; see `export_gguf`.

    Args:
        source: the model.
        folder: where the export goes; new, empty, or an earlier export.
        kind: one of `GGUF_TYPES`.
        text: for the types that llama.cpp's quantizer writes.

    Raises:
        ModelError: no tokenizer comes with the model, or its weights are not of its shape.
        CorpusError: llama.cpp does not know its tokenizer.
        ExportError: the folder is something else, cannot be written, or a check failed.
    """
    with TemporaryDirectory() as workspace:
        source.write_tokenizer(Path(workspace) / "tokenizer")
        return export_gguf(
            source.checked_weights(),
            shape=source.shape,
            tokenizer=open_tokenizer(Path(workspace) / "tokenizer"),
            folder=folder,
            kind=kind,
            about=ModelInfo(source.title, source.license),
            text=text,
        )


def modelfile(file: str, shape: ModelShape, tokenizer: Tokenizer) -> str:
    """What `ollama create` reads. A base model gets the prompt unchanged; a model with a chat template uses that."""
    lines = [f"FROM ./{file}", f"PARAMETER num_ctx {shape.context}"]
    if tokenizer.chat_template is None:
        lines += ["PARAMETER top_k 10", "PARAMETER repeat_penalty 1.5", 'TEMPLATE "{{ .Prompt }}"']
    return "\n".join(lines) + "\n"


def _compare_weights(stored: Mapping[str, Tensor], given: Mapping[str, Tensor], kind: str) -> None:
    for name, tensor in stored.items():
        original = given[name].detach().float().cpu()
        if tensor.dim() == 1:
            same = torch.equal(tensor, original)
        elif kind in _EXACT:
            same = torch.equal(tensor, original.to(_EXACT[kind]).float())
        else:
            blocks = original.reshape(-1, 32) if original.shape[1] % 32 == 0 else original
            bound = blocks.abs().amax(1, keepdim=True) * _Q8_ERROR + _Q8_TINY
            same = bool(((tensor.reshape(blocks.shape) - blocks).abs() <= bound).all())
        if not same:
            raise ExportError(
                f"{name} does not read back as it was written; no folder was made: run the command again, on another "
                "disk if that does not help"
            )


def _card(file: str, kind: str, shape: ModelShape, about: ModelInfo, result: ParityResult | QuantizationRecord) -> str:
    metadata = {"license": about.license, "pipeline_tag": "text-generation", "tags": ["llama", "gguf", "tinyllama"]}
    front = yaml.safe_dump(metadata, sort_keys=False)
    types, check = "", _equality(kind, result) if isinstance(result, ParityResult) else result.result()
    if isinstance(result, QuantizationRecord):
        types = f"## Tensor types\n\n{result.describe()}\n\n"
    return f"""\
---
{front}---

# {about.name} ({kind})

A Llama decoder with {shape.parameters:,} parameters for llama.cpp and what is built on it.

```sh
llama-completion -m {file} -p "Once upon a time"   # llama.cpp
ollama create {about.name.lower()} -f {MODELFILE}  # Ollama
```

{types}## Check of this folder

Before this folder appeared, {check}
"""


def _equality(kind: str, result: ParityResult) -> str:
    equal = "equal within the rounding of Q8_0" if kind == "Q8_0" else f"equal bit for bit once rounded to {kind}"
    return (
        f"every tensor of the file was read back and compared with the model's ({equal}), and transformers "
        f"{result.transformers_version} read the file: its logits were compared with ours at {result.tokens} "
        f"positions, each over the whole vocabulary. The largest difference is {result.largest_difference:.2g}, where "
        f"{result.tolerance:.2g} is allowed."
    )
