"""Text continued by a model: for Python users, and side by side with pieces as they come for the command line."""

from __future__ import annotations

from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tinyllama.errors import UserError
from tinyllama.formats.model_source import OpenModel
from tinyllama.formats.open import open_model
from tinyllama.inference.decode import decode_batch
from tinyllama.inference.packing import pack
from tinyllama.inference.sampling import Sampling
from tinyllama.inference.text_stream import stream_batch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_LOADED: WeakKeyDictionary[OpenModel, tuple[Llama, Tokenizer]] = WeakKeyDictionary()
"""Models that were loaded to generate, for as long as the caller holds what `open_model` gave."""


def generate(  # noqa: PLR0913  # a public function; all but two have defaults and go by name
    model: OpenModel | Path | str,
    prompt: str,
    *,
    max_new_tokens: int = 200,
    temperature: float = 1.0,
    top_k: int = 10,
    top_p: float = 1.0,
    repetition_penalty: float = 1.5,
    stop: str | Sequence[str] = (),
    seed: int = 0,
) -> str:
    """Continue a prompt; returns the new text without the prompt.

    The defaults are those of the model card's quick start. The weights are loaded once, in fp32, for as long as the
    caller holds the opened model; a name opens and loads the model at every call.

    Args:
        model: what `open_model` returned, or what it takes.
        prompt: the text to continue; with the new text it fills at most the model's context.
        max_new_tokens: upper bound of new tokens; at least 1.
        temperature: divides the logits; 0 is greedy.
        top_k: sample among this many most likely tokens; 0 means all.
        top_p: sample among the fewest most likely tokens that together have this probability.
        repetition_penalty: makes tokens of prompt and text less likely; 1 means no penalty.
        stop: the text ends before this string, or the first of several.
        seed: of the sampling; the same arguments give the same text.

    Raises:
        UserError: a setting is out of its range, or the prompt leaves no room in the context.
        ModelError: there is no such model.
    """
    settings = Sampling(temperature=temperature, top_k=top_k, top_p=top_p, repetition_penalty=repetition_penalty)
    stops = [stop] if isinstance(stop, str) else stop
    loaded, tokenizer = _load(model if isinstance(model, OpenModel) else open_model(model))
    steps = continue_prompts(
        loaded, tokenizer, [prompt], settings, stops=stops, max_new_tokens=max_new_tokens, seed=seed
    )
    return "".join(piece for (piece,) in steps)


def continue_prompts(  # noqa: PLR0913  # each by name
    model: Llama,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    settings: Sampling,
    *,
    stops: Sequence[str] = (),
    max_new_tokens: int,
    seed: int,
) -> Iterator[list[str]]:
    """Continue prompts side by side, yielding what each step adds to each text.

    Args:
        model: see `decode_batch`.
        tokenizer: the model's.
        prompts: texts; BOS is put before them where the tokenizer does so.
        settings: how tokens are chosen.
        stops: a text ends before the first of these strings.
        max_new_tokens: of every text, at most.
        seed: of the sampling.

    Raises:
        UserError: a prompt leaves no room in the context, a stop string is empty, or `max_new_tokens` is below 1.
    """
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")
    if "" in stops:
        raise UserError("a stop string is empty; give the text to stop before")
    ids = [tokenizer.encode_prompt(prompt) for prompt in prompts]
    steps = decode_batch(
        model, ids, settings, eos_id=tokenizer.eos_id, max_new_tokens=max_new_tokens, seed=seed
    )  # fmt: skip
    return stream_batch(tokenizer, ids, steps, stops)


def _load(source: OpenModel) -> tuple[Llama, Tokenizer]:
    if source not in _LOADED:
        model = source.load()
        pack(model)
        _LOADED[source] = model, source.tokenizer()
    return _LOADED[source]
