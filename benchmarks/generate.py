"""Our generation against transformers' on a CPU: tokens per second of one prompt's continuation.

    python benchmarks/generate.py [tiny|1.1b|FOLDER] [--dtype fp32|bf16] [--compile] [--gguf FILE]

`tiny` and `1.1b` are models of random weights (width 128, 4 layers, and TinyLlama's shape; 32,000 tokens); FOLDER is a
Hugging Face folder. With --compile, transformers also runs with its static cache and torch.compile; with --gguf,
llama.cpp (llama-cpp-python) runs the given file.
"""

from __future__ import annotations

import statistics
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from runner import Result, Table, calls_in_turns, publish, standard_arguments
from transformers import AutoConfig, AutoModelForCausalLM

from tinyllama.generate import Sampling, generate, pack
from tinyllama.model import Llama
from tinyllama.model.folder import config_of_shape, load_folder
from tinyllama.model.folder_weights import hub_name
from tinyllama.recipe import ModelShape

if TYPE_CHECKING:
    import argparse
    from collections.abc import Callable

OURS = "tinyllama"
SHAPES = {
    "tiny": ModelShape(layers=4, width=128, ffn=352, heads=4, kv_heads=2, context=2048, vocab_size=32000),
    "1.1b": ModelShape(layers=22, width=2048, ffn=5632, heads=32, kv_heads=4, context=2048, vocab_size=32000),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
PROMPT_TOKENS = 16


TEXT = """One prompt of 16 random ids continued greedily by {tokens} more, all in one process and in turns; medians of
wall-clock and of processor seconds."""


def main() -> None:
    """Measure all, and compare what they say."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    model, dtype = _model(asked.model, DTYPES[asked.dtype]), DTYPES[asked.dtype]
    prompt = torch.randint(3, model.shape.vocab_size, (PROMPT_TOKENS,), generator=torch.Generator().manual_seed(0))
    runs = _theirs(model, dtype, prompt, asked)
    pack(model)
    greedy = Sampling(temperature=0, repetition_penalty=1.0)
    runs[OURS] = lambda: list(
        generate(model, prompt.tolist(), greedy, eos_id=None, max_new_tokens=asked.tokens, seed=0)
    )
    if asked.gguf is not None:
        runs["llama.cpp"] = _llama_cpp(asked.gguf, prompt, asked)
    for run in runs.values():
        run()  # warm up
    seconds, texts = calls_in_turns(runs, asked.rounds)
    medians = {name: tuple(map(statistics.median, zip(*taken, strict=True))) for name, taken in seconds.items()}
    common = {name: _common(texts[OURS], ids) for name, ids in texts.items()}
    rows = [
        [
            name,
            f"{asked.tokens / wall:,.1f}",
            f"{asked.tokens / processor:,.1f}",
            f"{wall / medians[OURS][0]:.2f}",
            str(common[name]),
        ]
        for name, (wall, processor) in medians.items()
    ]
    columns = [
        f"{asked.model}, {asked.dtype}, {asked.threads} threads",
        "tokens/s",
        "tokens/processor s",
        "ours is x",
        "first ids in common",
    ]
    facts = {
        "model": asked.model,
        "dtype": asked.dtype,
        "threads": asked.threads,
        "new_tokens": asked.tokens,
        "seconds": seconds,
        "first_ids_in_common": common,
    }
    text = TEXT.format(tokens=asked.tokens)
    publish(Result("generate", "Generation", text, [Table(columns, rows)], facts=facts), asked.out)


def _arguments() -> argparse.Namespace:
    parser = standard_arguments("Compare generation with transformers'.")
    parser.add_argument("model", nargs="?", default="tiny", help="tiny, 1.1b or a Hugging Face folder")
    parser.add_argument("--dtype", choices=DTYPES, default="fp32")
    parser.add_argument("--tokens", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--compile", action="store_true", help="also transformers' static cache + torch.compile")
    parser.add_argument("--gguf", type=Path, help="also llama.cpp on this file")
    asked = parser.parse_args()
    if asked.quick:
        asked.tokens, asked.rounds = 4, 1
    return asked


def _model(name: str, dtype: torch.dtype) -> Llama:
    if name not in SHAPES:
        return load_folder(Path(name), dtype)
    model = Llama(SHAPES[name])
    model.initialise(0)
    return model.to(dtype).eval().requires_grad_(requires_grad=False)


def _theirs(
    model: Llama, dtype: torch.dtype, prompt: torch.Tensor, asked: argparse.Namespace
) -> dict[str, Callable[[], list[int]]]:
    """Transformers' model over the same memory, and its ways to generate."""
    config = config_of_shape(model.shape, dtype=dtype, bos_id=1, eos_id=2)
    with torch.device("meta"):
        twin: Any = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config), dtype=dtype)  # type: ignore[no-untyped-call]
    twin.load_state_dict({hub_name(name): weight for name, weight in model.state_dict().items()}, assign=True)
    twin.model.rotary_emb = type(twin.model.rotary_emb)(twin.config)  # not stored, and empty on the meta device
    twin.eval()
    twin.generation_config.update(eos_token_id=None, pad_token_id=0, do_sample=False)

    def run(**options: Any) -> list[int]:  # noqa: ANN401  # those of generate
        ids = twin.generate(
            prompt[None],
            attention_mask=torch.ones_like(prompt)[None],
            max_new_tokens=asked.tokens,
            min_new_tokens=asked.tokens,
            **options,
        )
        found: list[int] = ids[0, PROMPT_TOKENS:].tolist()
        return found

    runs: dict[str, Callable[[], list[int]]] = {"transformers": run}
    if asked.compile:
        from transformers import CompileConfig  # noqa: PLC0415  # only then

        settings = CompileConfig(fullgraph=False, mode="default")
        runs["transformers static + compile"] = partial(run, cache_implementation="static", compile_config=settings)
    return runs


def _llama_cpp(file: Path, prompt: torch.Tensor, asked: argparse.Namespace) -> Callable[[], list[int]]:
    from llama_cpp import Llama as LlamaCpp  # noqa: PLC0415  # only then

    engine = LlamaCpp(str(file), n_ctx=2048, n_threads=asked.threads, verbose=False)

    def run() -> list[int]:
        engine.reset()
        ids = engine.generate(prompt.tolist(), temp=0.0, repeat_penalty=1.0)
        return [token for token, _ in zip(ids, range(asked.tokens), strict=False)]

    return run


def _common(ours: list[int], theirs: list[int]) -> int:
    """How many ids are the same before the first that differs."""
    return next((i for i, pair in enumerate(zip(ours, theirs, strict=False)) if pair[0] != pair[1]), len(ours))


if __name__ == "__main__":
    main()
