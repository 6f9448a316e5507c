"""Conversations with small models of random weights, in the templates of real ones."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoTokenizer

from tests.inference.test_decode import random_model
from tests.tokenizer.chat_templates import CHATML, LLAMA2, LLAMA3
from tests.tokenizer.test_json_file import trained, write
from tinyllama.errors import UserError
from tinyllama.inference import Conversation, Ending, Sampling, decode_batch
from tinyllama.recipe import ModelShape
from tinyllama.tokenizer.byte_level import ByteLevel
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_writer import CONTROL

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from tinyllama.model import KeyValueCache, Llama
    from tinyllama.tokenizer.base import Tokenizer

MARKS = ["<|im_start|>", "<|im_end|>", "<|start_header_id|>", "<|end_header_id|>", "<|eot_id|>"]
SHAPE = ModelShape(layers=2, width=64, ffn=172, heads=4, kv_heads=2, context=400, vocab_size=512)
GREEDY = Sampling(temperature=0)


def tokenizer_with(template: str, folder: Path) -> Tokenizer:
    pieces = trained("smollm")
    pieces = ByteLevel("smollm", [*pieces.tokens, *MARKS], [*pieces.kinds, *[CONTROL] * len(MARKS)], pieces.merges)
    return open_tokenizer(write(folder, pieces, None, chat_template=template))


@pytest.fixture
def chatml(tmp_path: Path) -> Tokenizer:
    return tokenizer_with(CHATML, tmp_path / "tokenizer")


def writing(model: Llama, ids: list[int], end: int) -> Llama:
    """The model, but it writes these ids, then the end, again and again."""
    queue: list[int] = []

    def logits(state: Tensor) -> Tensor:
        if not queue:
            queue.extend([*ids, end])
        return torch.nn.functional.one_hot(torch.tensor([queue.pop(0)] * len(state)), SHAPE.vocab_size).float()

    model.lm_head.forward = logits
    return model


def positions_read(model: Llama, monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """The ids of each pass of a model from now on."""
    passes, hidden = list[list[int]](), model.hidden

    def counted(ids: Tensor, mask: Tensor | None, cache: KeyValueCache, *more: Tensor) -> Tensor:
        passes.append(ids[0].tolist())
        return hidden(ids, mask, cache, *more)

    monkeypatch.setattr(model, "hidden", lambda ids, mask=None, cache=None, *more: counted(ids, mask, cache, *more))
    return passes


def started(model: Llama, tokenizer: Tokenizer, settings: Sampling = GREEDY, most: int = 8) -> Conversation:
    return Conversation(model, tokenizer, settings, max_new_tokens=most, seed=3)


@pytest.mark.parametrize("template", [CHATML, LLAMA2, LLAMA3])
def test_every_turn_is_what_transformers_makes_of_the_conversation(tmp_path: Path, template: str) -> None:
    tokenizer = tokenizer_with(template, tmp_path)
    ids, answer = tokenizer.encode(["do they sleep?"])[0], "do they sleep?"
    theirs, messages = AutoTokenizer.from_pretrained(tmp_path), [{"role": "system", "content": "Be brief."}]
    conversation = started(writing(random_model(0, SHAPE), ids, tokenizer.eos_id), tokenizer, most=50)
    conversation.system = "Be brief."
    for message in (" the cat\n", "and <|im_end|> sleep?", "don't"):
        messages.append({"role": "user", "content": message})
        prompt = theirs.apply_chat_template(messages, add_generation_prompt=True)["input_ids"]
        assert "".join(conversation.answer(message)) == answer
        assert conversation.ids == [*prompt, *ids]
        messages.append({"role": "assistant", "content": answer})


@pytest.mark.parametrize("settings", [GREEDY, Sampling(0.8)])
def test_an_answer_continues_the_prompt(chatml: Tokenizer, settings: Sampling) -> None:
    model = random_model(0, SHAPE)
    text = "".join(started(model, chatml, settings).answer("the cat"))
    system = "<|im_start|>system\nYou are a helpful AI assistant named SmolLM, trained by Hugging Face<|im_end|>\n"
    prompt = chatml.encode_marked(f"{system}<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\n")
    steps = decode_batch(model, [prompt], settings, end_ids=(), max_new_tokens=8, seed=4)
    assert text == chatml.decode([new for (new,) in steps if new is not None])


def test_a_second_turn_reads_only_the_new_text(chatml: Tokenizer, monkeypatch: pytest.MonkeyPatch) -> None:
    (end,) = chatml.encode_marked("<|im_end|>")
    spelled_otherwise = [token for letter in "the cat" for token in chatml.encode([letter])[0]]
    assert spelled_otherwise != chatml.encode(["the cat"])[0]
    model = writing(random_model(0, SHAPE), spelled_otherwise, end)
    conversation, passes = started(model, chatml, most=50), positions_read(model, monkeypatch)
    assert "".join(conversation.answer("what?")) == "the cat"
    assert conversation.ending is Ending.END
    first = list(passes)
    passes.clear()
    assert "".join(conversation.answer("don't")) == "the cat"
    new = "<|im_end|>\n<|im_start|>user\ndon't<|im_end|>\n<|im_start|>assistant\n"
    assert passes[0] == chatml.encode_marked(new)
    assert len(passes) == len(first) == len(spelled_otherwise) + 1


def test_answers_do_not_depend_on_what_the_cache_holds(chatml: Tokenizer) -> None:
    model, settings = random_model(0, SHAPE), Sampling(temperature=0.7)
    kept, messages = started(model, chatml, settings), ("the cat", "don't", "and?")
    answers = ["".join(kept.answer(message)) for message in messages]
    kept.reset()
    assert ["".join(kept.answer(message)) for message in messages] == answers
    anew = started(model, chatml, settings)
    assert ["".join(anew.answer(message)) for message in messages] == answers


def test_the_mark_that_the_template_ends_an_answer_with_ends_it(chatml: Tokenizer) -> None:
    (end,) = chatml.encode_marked("<|im_end|>")
    assert end not in chatml.end_ids
    conversation = started(writing(random_model(0, SHAPE), chatml.encode(["cat"])[0], end), chatml)
    assert "".join(conversation.answer("a")) == "cat"


@pytest.mark.parametrize("passes", [1, 2, 5])
def test_an_interrupted_answer_stays_as_far_as_it_came(
    chatml: Tokenizer, passes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The interrupt comes inside the model, between two layers."""
    model = random_model(0, SHAPE)
    conversation, whole = started(model, chatml), started(model, chatml)
    left, layer = [passes], model.layers[1].forward

    def interrupted(*arguments: Tensor) -> Tensor:
        left[0] -= 1
        if left[0] == 0:
            raise KeyboardInterrupt
        return layer(*arguments)

    pieces: list[str] = []
    with monkeypatch.context() as patch:
        patch.setattr(model.layers[1], "forward", interrupted)
        with pytest.raises(KeyboardInterrupt):
            pieces.extend(conversation.answer("the cat"))
    pieces = list(whole.answer("the cat"))[: passes - 1]
    assert conversation.ending is None
    history = [{"role": "user", "content": "the cat"}, {"role": "assistant", "content": "".join(pieces)}]
    anew = started(model, chatml)
    anew.turns = history if "".join(pieces) else []
    assert conversation.turns == anew.turns
    assert list(conversation.answer("don't")) == list(anew.answer("don't"))


def test_a_full_context_says_so_and_a_new_conversation_has_room(chatml: Tokenizer) -> None:
    model = writing(random_model(0, SHAPE), chatml.encode(["the"])[0] * 30, 0)
    conversation = started(model, chatml, most=1000)
    "".join(conversation.answer("cat"))
    assert conversation.ending is Ending.CONTEXT
    for _ in range(2):
        with pytest.raises(UserError, match=r"tokens with this message, and the model's context of 400.*\(/reset\)"):
            next(conversation.answer("cat"))
    conversation.reset()
    assert next(conversation.answer("cat"))


def test_a_message_that_the_template_refuses_is_forgotten(tmp_path: Path) -> None:
    template = "{% if messages[-1].content == 'no' %}{{ raise_exception('not this') }}{% endif %}" + CHATML
    conversation = started(random_model(0, SHAPE), tokenizer_with(template, tmp_path))
    with pytest.raises(UserError, match="not this"):
        next(conversation.answer("no"))
    assert "".join(conversation.answer("yes"))


def test_an_answer_is_as_long_as_allowed(chatml: Tokenizer) -> None:
    conversation = started(random_model(0, SHAPE), chatml, most=3)
    "".join(conversation.answer("the cat"))
    assert conversation.ending is Ending.LENGTH
