"""Text continued by a model: for Python users, and side by side with pieces as they come for the command line."""

from __future__ import annotations

from collections import deque
from dataclasses import fields
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from tinyllama.errors import ModelError, UserError
from tinyllama.formats.model_source import OpenModel
from tinyllama.formats.open import open_model
from tinyllama.inference.decode import decode_batch
from tinyllama.inference.packing import pack
from tinyllama.inference.sampling import Sampling
from tinyllama.inference.text_stream import stream_batch
from tinyllama.record_files import parse_record, read_object

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from pathlib import Path

    from torch import Tensor

    from tinyllama.model import Llama
    from tinyllama.tokenizer.base import Tokenizer

_LOADED: WeakKeyDictionary[OpenModel, tuple[Llama, Tokenizer]] = WeakKeyDictionary()
"""Models that were loaded to generate, for as long as the caller holds what `open_model` gave."""


def generate(  # noqa: PLR0913  # a public function; all but two have defaults and go by name
    model: OpenModel | Path | str,
    prompt: str,
    *,
    max_new_tokens: int = 200,
    temperature: float | None = None,
    top_k: int | None = None,
    top_p: float | None = None,
    repetition_penalty: float | None = None,
    min_p: float | None = None,
    typical_p: float | None = None,
    no_repeat_ngram_size: int | None = None,
    bad_words: Sequence[str] = (),
    stop: str | Sequence[str] = (),
    seed: int = 0,
) -> str:
    """Continue a prompt; returns the new text without the prompt.

    The weights are loaded once, in fp32, for as long as the caller holds the opened model; a name opens and loads the
    model at every call. Sampling options that are not given are those of `default_sampling`.

    Args:
        model: what `open_model` returned, or what it takes.
        prompt: the text to continue; with the new text it fills at most the model's context.
        max_new_tokens: upper bound of new tokens; at least 1.
        temperature: divides the logits; 0 is greedy.
        top_k: sample among this many most likely tokens; 0 means all.
        top_p: sample among the fewest most likely tokens that together have this probability.
        repetition_penalty: makes tokens of prompt and text less likely; 1 means no penalty.
        min_p: sample among the tokens with at least this fraction of the most likely one's probability.
        typical_p: sample among the tokens of the most typical information content that have this probability.
        no_repeat_ngram_size: no sequence of this many tokens occurs twice; 0 allows all.
        bad_words: texts that do not occur in the new text, as their usual tokens spell them.
        stop: the text ends before this string, or the first of several.
        seed: of the sampling; the same arguments give the same text.

    Raises:
        UserError: a setting is out of its range, or the prompt leaves no room in the context.
        ModelError: there is no such model.
    """
    source = model if isinstance(model, OpenModel) else open_model(model)
    settings = default_sampling(source).changed(
        temperature=temperature,
        top_k=top_k,
        top_p=top_p,
        repetition_penalty=repetition_penalty,
        min_p=min_p,
        typical_p=typical_p,
        no_repeat_ngram_size=no_repeat_ngram_size,
    )
    stops = [stop] if isinstance(stop, str) else stop
    loaded, tokenizer = _load(source)
    settings = without_words(settings, tokenizer, bad_words)
    steps = continue_prompts(
        loaded, tokenizer, [prompt], settings, stops=stops, max_new_tokens=max_new_tokens, seed=seed
    )
    return "".join(piece for (piece,) in steps)


def default_sampling(source: OpenModel) -> Sampling:
    """How a model is sampled from by default: as its generation_config.json says, else as it gives probabilities.

    Raises:
        ModelError: the file cannot be read.
        UserError: a setting in it is out of its range.
    """
    if source.generation_config is None or not source.generation_config.is_file():
        return Sampling()
    stated = read_object(source.generation_config, ModelError, "download the file again")
    if stated.get("do_sample") is not True:
        return Sampling()
    settings = {field.name: stated[field.name] for field in fields(Sampling) if stated.get(field.name) is not None}
    return parse_record(Sampling, settings, source.generation_config, ModelError, "correct it there")


def without_words(settings: Sampling, tokenizer: Tokenizer, words: Sequence[str]) -> Sampling:
    """Settings that also ban these texts, each as its tokens spell it after a space and without one.

    A text that other tokens spell is not banned, as in transformers.

    Raises:
        UserError: a text is empty.
    """
    if "" in words:
        raise UserError("a bad word is empty; give the text that must not occur")
    (before,) = tokenizer.encode(["\n"])  # a text's first token may differ from the same word's further on
    spelled = tokenizer.encode([f"\n{space}{word}" for word in words for space in ("", " ")])
    banned = [tuple(ids[len(before) :]) for ids in spelled if ids[: len(before)] == before]
    return settings.changed(bad_words_ids=(*settings.bad_words_ids, *banned))


def continue_prompts(  # noqa: PLR0913  # each by name
    model: Llama,
    tokenizer: Tokenizer,
    prompts: Sequence[str],
    settings: Sampling,
    *,
    stops: Sequence[str] = (),
    max_new_tokens: int,
    seed: int,
    samples: int = 1,
    on_full: Callable[[int], None] = lambda _row: None,
    on_token: Callable[[int, int, Tensor], None] = lambda _row, _new, _logits: None,
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
        samples: texts for each prompt: all prompts in order, then all again, and so on.
        on_full: called with the number of each text that ends because the model's context is full.
        on_token: called with the number of the text, each of its tokens, and the model's own logits [V] for it.

    Raises:
        UserError: a prompt leaves no room in the context, a stop string is empty, or `max_new_tokens` is below 1.
    """
    if max_new_tokens < 1:
        raise UserError(f"max_new_tokens is {max_new_tokens}, but must be at least 1")
    if "" in stops:
        raise UserError("a stop string is empty; give the text to stop before")
    ids = [tokenizer.encode_prompt(prompt) for prompt in prompts]
    newest: deque[Tensor] = deque(maxlen=1)
    steps = decode_batch(
        model,
        ids,
        settings,
        end_ids=tokenizer.end_ids,
        max_new_tokens=max_new_tokens,
        seed=seed,
        samples=samples,
        on_logits=newest.append,
    )
    ids *= samples
    rooms = [model.shape.context - len(prompt) for prompt in ids]

    def count(row: int, new: int) -> None:
        on_token(row, new, newest[0][row])
        rooms[row] -= 1
        if rooms[row] == 0:
            on_full(row)

    return stream_batch(tokenizer, ids, steps, stops, count)


def _load(source: OpenModel) -> tuple[Llama, Tokenizer]:
    if source not in _LOADED:
        model = source.load()
        pack(model)
        _LOADED[source] = model, source.tokenizer()
    return _LOADED[source]
