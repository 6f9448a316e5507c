"""What `generate` and `chat` share: the model, how it is loaded, and how tokens are chosen."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tinyllama.cli.app import Precision, any_seed, as_text, real, whole

if TYPE_CHECKING:
    from tinyllama.formats.model_source import OpenModel
    from tinyllama.inference import Sampling
    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

ModelName = Annotated[
    str,
    typer.Argument(
        metavar="MODEL", help="A model's folder or checkpoint, a Hugging Face folder or hub id, or a GGUF file."
    ),
]
Temperature = Annotated[float | None, real("Sampling temperature; 0 is greedy.")]
TopK = Annotated[int | None, whole("Sample from the N most likely tokens; 0 means all.", least=0)]
TopP = Annotated[float | None, real("Sample from the smallest set of tokens with this total probability.", most=1.0)]
MinP = Annotated[
    float | None, real("Sample from tokens with at least this fraction of the highest probability.", most=1.0)
]
TypicalP = Annotated[float | None, real("Sample from the most typical tokens with this total probability.", most=1.0)]
RepetitionPenalty = Annotated[
    float | None, real("Repetition penalty on tokens that already occurred; 1 means no penalty.", least=0.01)
]
NoRepeatNgram = Annotated[int | None, whole("Let no sequence of N tokens occur twice; 0 allows all.", least=0)]
BadWords = Annotated[
    list[str] | None, typer.Option("--bad-word", metavar="TEXT", help="Never write this text; may be repeated.")
]
Seed = Annotated[int, any_seed("Random seed for sampling.")]
ModelPrecision = Annotated[
    Precision, typer.Option(help="Number format; bf16 halves memory, and also time on CPUs that support it.")
]

_SLOW = 500_000_000
"""Weights from which a text on a CPU takes so long that a faster way is worth a line."""


def load_model(source: OpenModel, precision: Precision, device: str) -> Llama:
    """The weights on their device, in a layout that is fast to generate with."""
    from tinyllama.inference import pack
    from tinyllama.model.devices import choose_device
    from tinyllama.train.precision import DTYPES

    weights = source.load(DTYPES[precision]).to(choose_device(device))
    pack(weights)
    if weights.embed_tokens.weight.device.type == "cpu" and source.shape.parameters >= _SLOW:
        typer.echo(f"note: {_faster_way(source)}", err=True)
    return weights


def _faster_way(source: OpenModel) -> str:
    """How llama.cpp runs the model, which is the fastest on a CPU (docs/benchmarks.md, "Generation")."""
    if source.path.suffix == ".gguf":
        return f"llama.cpp is faster on a CPU: `tinyllama serve {source.origin}`"
    export = f"tinyllama export {source.origin} --format gguf --precision Q8_0"
    return f"llama.cpp is faster on a CPU: `{export}`, then `tinyllama serve` with the folder that this prints"


def choose_sampling(
    source: OpenModel, tokenizer: Tokenizer, bad_words: list[str] | None, **options: float | None
) -> Sampling:
    """The model's own sampling settings, with the options that were given."""
    from tinyllama.inference import default_sampling, without_words

    return without_words(default_sampling(source).changed(**options), tokenizer, list(map(as_text, bad_words or [])))
