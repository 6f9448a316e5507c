"""Size, bits per byte, KL divergence and speed of a model's GGUF types, which llama.cpp runs on the CPU.

    python benchmarks/quantize.py MODEL --text FILE [--types F16,Q8_0,Q6_K,Q4_K_M] [--characters N]

MODEL is anything that `tinyllama export` takes, or `1.1b`, TinyLlama as it is initialized, which takes 12 GB of memory
and 13 GB of disk in --out. Bits per byte and KL divergence are measured as an export measures them, on the first N
characters of FILE. Types take turns at decoding; each type's speed is that of its fastest turn, in processor time, so
that other programs on the machine hardly matter.
"""

from __future__ import annotations

import argparse
import math
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from runner.turns import calls_in_turns

from tinyllama.export import QUANTIZED, ModelInfo
from tinyllama.export.divergence import CHARACTERS, measure, split_text, windows_of
from tinyllama.export.parity import our_model
from tinyllama.export.quantized import LIMITS
from tinyllama.family.evaluate_model import open_text
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.formats.gguf.quantizer import load_llama_cpp, quantize_file, type_shares
from tinyllama.formats.gguf.writer import write_gguf
from tinyllama.formats.open import open_model
from tinyllama.model import Llama
from tinyllama.processors import available_cores
from tinyllama.recipe import load_recipe
from tinyllama.sources.builtin.registry import read_builtin
from tinyllama.text import listing, markdown_table, percent
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tinyllama.recipe import ModelShape
    from tinyllama.tokenizer.base import Tokenizer

_TURNS, _TOKENS = 5, 16
_HEADER = ["type", "MB", "bits per byte", "KL, nats per token", "limit", "tokens/s", "tensor types, by weights"]


def main() -> None:
    """Write the types, measure each, and print a table in Markdown."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model")
    parser.add_argument("--text", type=Path, required=True, help="held-out text")
    parser.add_argument("--types", default="F16,Q8_0,Q6_K,Q4_K_M")
    parser.add_argument("--characters", type=int, default=CHARACTERS, help="of the text to measure on")
    parser.add_argument("--out", type=Path, help="folder for temporary files")
    given = parser.parse_args()
    torch.set_num_threads(available_cores())
    with TemporaryDirectory(dir=given.out) as folder:
        shape, weights, tokenizer, bos = _open(given.model, Path(folder))
        (piece,) = split_text({"text": open_text(given.text).documents}, given.characters)
        windows = windows_of(piece, tokenizer, bos=bos, context=shape.context)
        exact = Path(folder) / "F32.gguf"
        write_gguf(weights, shape, tokenizer, exact, "F32", ModelInfo("model", "other"))
        files, rows = {}, []
        for kind in given.types.split(","):
            files[kind] = path = Path(folder) / f"{kind}.gguf"
            if kind in QUANTIZED:
                quantize_file(exact, path, kind, {})
            else:
                write_gguf(weights, shape, tokenizer, path, kind, ModelInfo("model", "other"))
            found = measure(our_model(shape, weights, torch.float32), path, windows)
            bits = [loss / math.log(2) / windows.bytes for loss in (found.loss, found.reference_loss)]
            shares = type_shares(GgufFile(path))
            total = sum(share.weights for share in shares.values())
            types = listing([f"{name} {percent(of.weights / total, 0)}%" for name, of in shares.items()])
            size, kl = f"{path.stat().st_size / 1e6:.0f}", f"{found.kl / windows.count:.2g}"
            rows.append([kind, size, f"{bits[0]:.4f}", kl, str(LIMITS.get(kind, "—")), types])
            print(kind, rows[-1], flush=True)
        speeds = _speeds(files)
    print(f"{windows.count} tokens; F32: {bits[1]:.4f} bits per byte; {available_cores()} cores\n")
    print(markdown_table(_HEADER, [[*row[:5], f"{speeds[row[0]]:.1f}", row[5]] for row in rows]))


def _open(name: str, folder: Path) -> tuple[ModelShape, Mapping[str, torch.Tensor], Tokenizer, bool]:
    """Shape, weights and tokenizer, and whether texts begin with BOS."""
    if name != "1.1b":
        source = open_model(name)
        source.write_tokenizer(folder / "tokenizer")
        return source.shape, source.checked_weights(), open_tokenizer(folder / "tokenizer"), source.adds_bos
    texts = [str(raw.data) for raw in islice(read_builtin("docstrings"), 200)]
    (folder / "tokenizer.model").write_bytes(train_model(texts, 2000))
    shape = load_recipe("tinyllama-v1.1").model
    model = Llama(shape)
    model.initialize(0)
    return shape, model.state_dict(), SentencePieceTokenizer(folder / "tokenizer.model"), False


def _speeds(files: Mapping[str, Path]) -> dict[str, float]:
    """Tokens per second of decoding after one token, by the processor time of all threads."""
    llama_cpp: Any = load_llama_cpp()
    threads = available_cores()

    def decode(model: Any) -> None:  # noqa: ANN401  # a Llama of llama_cpp
        model.reset()
        model.eval([1])
        for _ in range(_TOKENS):
            model.eval([5])

    runs = {
        kind: partial(decode, llama_cpp.Llama(str(path), n_ctx=64, n_threads=threads, verbose=False))
        for kind, path in files.items()
    }
    seconds, _ = calls_in_turns(runs, _TURNS)
    return {kind: (_TOKENS + 1) * threads / min(processor for _, processor in turns) for kind, turns in seconds.items()}


if __name__ == "__main__":
    main()
