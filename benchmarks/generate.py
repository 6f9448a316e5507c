"""Our generation against that of transformers and llama.cpp on a CPU: a continuation, a long prompt's first token.

    python benchmarks/generate.py [MODEL ...] [--dtype fp32|bf16]

MODEL is `mini` or `1.1b`, models of random weights in the shapes of the demo with 32,000 ids (fp32) and of TinyLlama
(bf16), or an exported folder; without one, both shapes run. Transformers generates as it does by default, and with its
static cache and torch.compile. Where llama-cpp-python is installed, llama.cpp runs the same model in a GGUF file that
we write. Of 1.1B parameters all this takes 10 GB of memory, and 4 GB of disk in --out.
"""

from __future__ import annotations

import statistics
import sys
from contextlib import contextmanager
from functools import partial
from importlib.util import find_spec
from itertools import islice
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import torch
from runner import Claim, Result, Table, calls_in_turns, publish, standard_arguments
from transformers import AutoConfig, AutoModelForCausalLM, CompileConfig

from tinyllama.export import ModelInfo
from tinyllama.formats.gguf.writer import write_gguf
from tinyllama.formats.huggingface.config import config_of_shape
from tinyllama.formats.huggingface.tensors import hub_name
from tinyllama.formats.open import open_model
from tinyllama.inference import Sampling, decode_batch, pack
from tinyllama.installation import install_hint
from tinyllama.model import Llama
from tinyllama.recipe import ModelShape, load_recipe
from tinyllama.sources.builtin.registry import read_builtin
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable, Iterator, Sequence

    Decoder = Callable[[list[int], int], Sequence[int | None]]
    """From a prompt and a number of tokens to the tokens that continue it."""

OURS, PLAIN, COMPILED = "tinyllama", "transformers", "transformers, static cache + compile"
SHAPES = {
    "tiny": ModelShape(layers=2, width=64, ffn=128, heads=4, kv_heads=2, context=256, vocab_size=1000),
    "mini": load_recipe("mini", ["model.vocab_size=32000", "tokenizer={builtin: llama2}"]).model,
    "1.1b": load_recipe("tinyllama-v1.1").model,
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
DEFAULT_DTYPE = {"1.1b": "bf16"}
LEAST = {"mini": {PLAIN: 1.5}, "1.1b": {PLAIN: 1.3, COMPILED: 1.0}}
"""How many times as fast as others we shall be."""
FIRST_LEAST = {"mini": {PLAIN: 1.5}, "1.1b": {PLAIN: 1.0}}
"""The same for the first token after a long prompt; of 1.1b, oneDNN's products are three quarters of our time, and
transformers computes the same ones."""
KINDS = ("BF16", "Q8_0")
"""Of the matrices in GGUF files."""
PROMPT_TOKENS, LONG_PROMPT_TOKENS = 16, 1000
TEXT = """One prompt of {prompt} random ids is continued greedily by {tokens} ids, with {threads} threads, all in one
process and in turns; medians of {rounds} rounds. The first token is that after a prompt of {long} ids, or of the
model's context. llama.cpp runs GGUF files that we wrote from the same weights."""


def main() -> None:
    """Measure every model and check the claims."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    found = {name: _measured(name, asked) for name in asked.models}
    claims = [
        Claim(f"{name}: {what}, as a multiple of {other}'s", found[name][other][ratio], least=least, unit="x")
        for what, ratio, limits in (("speed", "ours_is_x", LEAST), ("first token", "our_first_is_x", FIRST_LEAST))
        for name in found
        for other, least in limits.get(name, {}).items()
    ]
    text = TEXT.format(
        prompt=PROMPT_TOKENS,
        long=LONG_PROMPT_TOKENS,
        tokens=asked.tokens,
        threads=asked.threads,
        rounds=asked.rounds,
    )
    tables = [_table(f"{name}, {_dtype(name, asked)}", of_model) for name, of_model in found.items()]
    facts = {"threads": asked.threads, "new_tokens": asked.tokens, "models": found}
    publish(Result("generate", "Generation", text, tables, claims, facts=facts), asked.out)


def _arguments() -> argparse.Namespace:
    parser = standard_arguments("Compare generation with transformers' and llama.cpp's.")
    parser.add_argument("models", nargs="*", metavar="MODEL", help="mini, 1.1b or a Hugging Face folder")
    parser.add_argument("--dtype", choices=DTYPES, help="default: bf16 for 1.1b, fp32 for others")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    asked = parser.parse_args()
    asked.models = asked.models or (["tiny"] if asked.quick else ["mini", "1.1b"])
    if asked.quick:
        asked.tokens, asked.rounds = 4, 1
    return asked


def _measured(name: str, asked: argparse.Namespace) -> dict[str, dict[str, Any]]:
    """Engine → its seconds in each round, its tokens per second, and the ids in common with ours."""
    dtype = DTYPES[_dtype(name, asked)]
    model = _model(name, dtype)
    length = min(LONG_PROMPT_TOKENS, model.shape.context - asked.tokens)
    drawn = torch.randint(3, model.shape.vocab_size, (length,), generator=torch.Generator().manual_seed(0)).tolist()
    with _llama_cpp(model, asked) as others:
        engines = _transformers(model, dtype) | others
        pack(model)  # takes the model's weights apart, so it comes last
        engines[OURS] = partial(_ids, model)
        runs = {engine: partial(decode, drawn[:PROMPT_TOKENS], asked.tokens) for engine, decode in engines.items()}
        for engine, run in runs.items():
            sys.stderr.write(f"{name}: {engine}: warming up\n")
            run()
        seconds, ids = calls_in_turns(runs, asked.rounds)
        # A prompt of another length would be compiled again.
        firsts = {engine: partial(decode, drawn, 1) for engine, decode in engines.items() if engine != COMPILED}
        first_seconds, _ = calls_in_turns(firsts, asked.rounds + 1)
    wall = {engine: statistics.median(turn[0] for turn in turns) for engine, turns in seconds.items()}
    first = {engine: statistics.median(turn[0] for turn in turns[1:]) for engine, turns in first_seconds.items()}
    return {
        engine: {
            "tokens_per_second": asked.tokens / wall[engine],
            "ours_is_x": wall[engine] / wall[OURS],
            "first_token_seconds": first.get(engine),
            "our_first_is_x": first[engine] / first[OURS] if engine in first else None,
            "first_ids_in_common": _common(ids[OURS], ids[engine]),
            "wall_and_processor_seconds": turns,
        }
        for engine, turns in seconds.items()
    }


def _dtype(name: str, asked: argparse.Namespace) -> str:
    return asked.dtype or DEFAULT_DTYPE.get(name, "fp32")


def _table(title: str, found: dict[str, dict[str, Any]]) -> Table:
    rows = [
        [
            engine,
            f"{one['tokens_per_second']:,.1f}",
            f"{one['ours_is_x']:.2f}",
            "" if one["our_first_is_x"] is None else f"{one['first_token_seconds']:,.2f}",
            "" if one["our_first_is_x"] is None else f"{one['our_first_is_x']:.2f}",
            str(one["first_ids_in_common"]),
        ]
        for engine, one in found.items()
    ]
    header = [title, "tokens/s", "our speedup", "first token, s", "our speedup", "first ids in common"]
    return Table(header, rows)


def _ids(model: Llama, prompt: list[int], tokens: int) -> list[int | None]:
    greedy = Sampling(temperature=0, repetition_penalty=1.0)
    steps = decode_batch(model, [prompt], greedy, end_ids=(), max_new_tokens=tokens, seed=0)
    return [new for (new,) in steps]


def _model(name: str, dtype: torch.dtype) -> Llama:
    if name not in SHAPES:
        return open_model(name).load(dtype)
    model = Llama(SHAPES[name])
    model.initialize(0)
    return model.to(dtype).eval().requires_grad_(requires_grad=False)


def _transformers(model: Llama, dtype: torch.dtype) -> dict[str, Decoder]:
    """Transformers' model over the same memory, and its ways to generate."""
    config = config_of_shape(model.shape, dtype=dtype, bos_id=1, eos_id=2)
    with torch.device("meta"):
        twin: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype)  # type: ignore[no-untyped-call]
    twin.load_state_dict({hub_name(name): weight for name, weight in model.state_dict().items()}, assign=True)
    twin.model.rotary_emb = type(twin.model.rotary_emb)(twin.config)  # not stored, and empty on the meta device
    twin.eval()
    twin.generation_config.update(eos_token_id=None, pad_token_id=0, do_sample=False)

    def run(prompt: list[int], tokens: int, **options: Any) -> list[int]:  # noqa: ANN401  # those of generate
        given = torch.tensor([prompt])
        asked = {"max_new_tokens": tokens, "min_new_tokens": tokens, **options}
        found: list[int] = twin.generate(given, attention_mask=torch.ones_like(given), **asked)[0].tolist()
        return found[len(prompt) :]

    compiled: Any = CompileConfig(mode="default")
    compiled._compile_all_devices = True  # noqa: SLF001  # without it, generate compiles for accelerators alone
    return {PLAIN: run, COMPILED: partial(run, cache_implementation="static", compile_config=compiled)}


@contextmanager
def _llama_cpp(model: Llama, asked: argparse.Namespace) -> Iterator[dict[str, Decoder]]:
    """llama.cpp on files of the same weights, which exist while the block runs."""
    if find_spec("llama_cpp") is None:
        sys.stderr.write(f"llama.cpp: skipped, because it is not installed: {install_hint('serve')}\n")
        yield {}
        return
    from llama_cpp import Llama as LlamaCpp  # an extra

    asked.out.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=asked.out) as folder:
        spelling = Path(folder) / "tokenizer.model"
        spelling.write_bytes(train_model([str(raw.data) for raw in islice(read_builtin("docstrings"), 20)], 600))
        engines: dict[str, Decoder] = {}
        for kind in KINDS:
            file = Path(folder) / f"{kind}.gguf"
            about = ModelInfo("benchmark", "other")
            write_gguf(model.state_dict(), model.shape, SentencePieceTokenizer(spelling), file, kind, about)
            engine = LlamaCpp(str(file), n_ctx=model.shape.context, n_threads=asked.threads, verbose=False)
            engines[f"llama.cpp {kind}"] = partial(_continued, engine)
        yield engines


def _continued(engine: Any, prompt: list[int], tokens: int) -> list[int]:  # noqa: ANN401  # a Llama of llama_cpp
    engine.reset()
    return list(islice(engine.generate(prompt, temp=0.0, repeat_penalty=1.0), tokens))


def _common(ours: Sequence[int | None], theirs: Sequence[int | None]) -> int:
    """How many ids are the same before the first that differs."""
    return next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))


if __name__ == "__main__":
    main()
