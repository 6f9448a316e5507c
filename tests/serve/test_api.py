"""The API over an engine that spells the alphabet: what OpenAI's clients send and expect."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any

import pytest

from tests.serve.stand_in import CONTEXT, EOS, FIRST, LIMITS, Reply, ask, request, stand_in
from tinyllama.serve.guard import CHAT, COMPLETIONS, MODELS, Limits

A = FIRST + ord("a")
LOGPROB = 9 - math.log(math.exp(9) + 258)
"""Of the token that the engine prefers."""


def complete(model: str = "base", **body: object) -> Reply:
    return ask(COMPLETIONS, {"model": model, **body})


def chat(*messages: object, **body: object) -> Reply:
    return ask(CHAT, {"model": "chat", "temperature": 0, "messages": messages, **body})


def texts(reply: Reply) -> list[str]:
    assert [choice["index"] for choice in reply.json["choices"]] == list(range(len(reply.json["choices"])))
    return [choice["text"] for choice in reply.json["choices"]]


def test_a_prompt_is_continued() -> None:
    answer = complete(prompt="ab", max_tokens=3, temperature=0).json
    assert answer["object"] == "text_completion"
    assert answer["id"].startswith("cmpl-")
    assert answer["choices"] == [{"text": "cde", "index": 0, "logprobs": None, "finish_reason": "length"}]
    assert answer["usage"] == {"prompt_tokens": 3, "completion_tokens": 3, "total_tokens": 6}


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        (["a", "m"], ["bc", "no"]),
        ([A, A + 4], ["fg"]),
        ([[A], [A + 1, A + 2], [A]], ["bc", "de", "bc"]),
        ("", ["ab"]),
        (None, ["ab"]),
        ([""], ["ab"]),
    ],
)
def test_prompts_are_texts_ids_or_lists_of_either(prompt: object, expected: list[str]) -> None:
    assert texts(complete(prompt=prompt, max_tokens=2, temperature=0)) == expected


def test_several_answers_to_several_prompts_come_in_order() -> None:
    reply = complete(prompt=["a", "m"], n=2, max_tokens=1, temperature=0, best_of=2)
    assert texts(reply) == ["b", "b", "n", "n"]
    assert reply.json["usage"] == {"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}


@pytest.mark.parametrize(
    ("stop", "expected"),
    [("d", ("c", "stop")), (["e", "cd"], ("", "stop")), (["", "f"], ("cde", "stop")), ([], ("cdefg", "length"))],
)
def test_stop_strings_end_an_answer(stop: object, expected: tuple[str, str]) -> None:
    (choice,) = complete(prompt="ab", max_tokens=5, temperature=0, stop=stop).json["choices"]
    assert (choice["text"], choice["finish_reason"]) == expected


def test_an_answer_ends_at_the_end_token_and_at_the_context() -> None:
    (ended,) = complete(prompt="x", temperature=0).json["choices"]
    assert (ended["text"], ended["finish_reason"]) == ("yz", "stop")
    (full,) = complete(prompt="a" * (CONTEXT - 1), temperature=0).json["choices"]
    assert (full["text"], full["finish_reason"]) == ("b", "length")


def test_a_character_of_several_tokens_comes_whole() -> None:
    first, last = "é".encode()
    asked = {"temperature": 0, "logit_bias": {str(FIRST + last): 100}, "max_tokens": 1}
    assert texts(complete(prompt=[A, FIRST + first], **asked)) == ["é"]
    asked["logit_bias"] = {str(FIRST + first): 100, str(FIRST + last): 99}
    events = complete(prompt="a", presence_penalty=2, stream=True, **(asked | {"max_tokens": 2})).events
    assert [event["choices"][0]["text"] for event in events] == ["é", ""]


@pytest.mark.parametrize("tokens", [0, 1])
def test_echo_with_logprobs_scores_a_prompt_as_lm_eval_asks(tokens: int) -> None:
    """lm-eval reads `token_logprobs[ctxlen:-1]`, so that a generated token must be there, even an end token."""
    (choice,) = complete(prompt=[A, A + 1, A + 25], echo=True, logprobs=1, max_tokens=tokens, temperature=0).json[
        "choices"
    ]
    found = choice["logprobs"]
    assert choice["text"] == "abz"
    assert found["tokens"] == ["a", "b", "z", f"<{EOS}>"][: 3 + tokens]
    assert found["token_logprobs"][0] is None
    expected = [LOGPROB, LOGPROB - 9, LOGPROB]
    assert found["token_logprobs"][1:] == pytest.approx(expected[: 2 + tokens])
    assert found["top_logprobs"][0] is None
    assert found["top_logprobs"][2] == pytest.approx({"c": LOGPROB, "z": LOGPROB - 9})
    assert found["text_offset"] == [0, 1, 2, 3][: 3 + tokens]


def test_a_whole_context_can_be_scored() -> None:
    (choice,) = complete(prompt=[A] * CONTEXT, echo=True, logprobs=0, max_tokens=1).json["choices"]
    assert len(choice["logprobs"]["tokens"]) == CONTEXT + 1


def test_an_engine_that_cannot_score_prompts_says_so_by_name() -> None:
    status, code, param, message = complete("other", prompt="ab", echo=True, logprobs=1).error()
    assert (status, code, param) == (400, "unsupported_value", "echo")
    assert "alphabet" in message
    assert texts(complete("other", prompt="ab", echo=True, max_tokens=1, temperature=0)) == ["abc"]


def test_logprobs_of_new_tokens_are_the_models_own() -> None:
    (choice,) = complete(prompt="a", logprobs=2, max_tokens=2, temperature=0, logit_bias={str(A): 5}).json["choices"]
    assert choice["logprobs"]["token_logprobs"] == pytest.approx([LOGPROB, LOGPROB])
    assert [len(top) for top in choice["logprobs"]["top_logprobs"]] == [2, 2]


@pytest.mark.parametrize("counted", [True, False, None])
def test_a_stream_counts_its_tokens_if_asked(counted: bool | None) -> None:  # noqa: FBT001  # a parameter
    options = {"stream": True, "stream_options": {"include_usage": counted}, "temperature": 0}
    reply = complete(prompt=["a", "m"], max_tokens=2, **options)
    assert reply.headers["content-type"] == "text/event-stream"
    events = reply.events
    pieces = [choice for event in events for choice in event["choices"]]
    assert [(piece["index"], piece["text"], piece["finish_reason"]) for piece in pieces if piece["text"]] == [
        (0, "b", None), (0, "c", None), (1, "n", None), (1, "o", None),
    ]  # fmt: skip
    assert [piece["index"] for piece in pieces if piece["finish_reason"] == "length"] == [0, 1]
    usages = [event["usage"] for event in events if event["usage"]]
    assert usages == ([{"prompt_tokens": 4, "completion_tokens": 4, "total_tokens": 8}] if counted else [])
    assert bool(events[-1]["choices"]) is not bool(counted)


def test_a_streamed_score_is_that_of_the_whole_answer() -> None:
    asked = {"prompt": "ab", "echo": True, "logprobs": 1, "max_tokens": 2, "temperature": 0}
    whole = complete(**asked).json["choices"][0]["logprobs"]
    parts = [event["choices"][0]["logprobs"] for event in complete(**asked, stream=True).events]
    for key in whole:
        assert [entry for part in parts if part for entry in part[key]] == whole[key]


def test_null_is_absent_for_every_optional_parameter() -> None:
    described = ask("/openapi.json", method="GET").json["components"]["schemas"]
    for path, name, asked in (
        (COMPLETIONS, "CompletionRequest", {"model": "base", "prompt": "a"}),
        (CHAT, "ChatRequest", {"model": "chat", "messages": [{"role": "user", "content": "a"}]}),
    ):
        asked |= {"temperature": 0, "max_tokens": 3}
        expected = ask(path, asked).json["choices"]
        optional = set(described[name]["properties"]) - set(described[name]["required"]) - set(asked)
        assert len(optional) > 15
        for key in optional:
            assert ask(path, asked | {key: None}).json["choices"] == expected, key


@pytest.mark.parametrize("path", [COMPLETIONS, CHAT])
def test_a_null_limit_leaves_the_other_one_or_the_servers(path: str) -> None:
    asked: dict[str, Any] = {"model": "chat", "temperature": 0}
    asked |= {"prompt": "a"} if path == COMPLETIONS else {"messages": [{"role": "user", "content": "a"}]}
    both = {"max_tokens": 5} | ({} if path == COMPLETIONS else {"max_completion_tokens": None})
    assert ask(path, asked | both).json["usage"]["completion_tokens"] == 5
    assert ask(path, asked | {"max_tokens": None}).json["usage"]["completion_tokens"] == LIMITS.max_tokens


def test_a_conversation_is_answered() -> None:
    answer = chat({"role": "user", "content": "ab"}, max_completion_tokens=2).json
    assert answer["object"] == "chat.completion"
    message = {"role": "assistant", "content": "cd", "refusal": None}
    assert answer["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}]
    assert answer["usage"] == {"prompt_tokens": 2, "completion_tokens": 2, "total_tokens": 4}


@pytest.mark.parametrize("content", [[{"type": "text", "text": "ab"}], "ab"])
def test_content_may_be_a_list_of_parts(content: object) -> None:
    (choice,) = chat({"role": "system", "content": None}, {"role": "user", "content": content}, max_tokens=1).json[
        "choices"
    ]
    assert choice["message"]["content"] == "c"


def test_a_streamed_conversation_tells_the_role_first() -> None:
    asked = {"max_tokens": 2, "n": 2, "stream": True, "stream_options": {"include_usage": True}}
    events = chat({"role": "user", "content": "a"}, **asked).events
    deltas = [event["choices"][0] for event in events[:-1]]
    assert events[-1]["usage"] == {"prompt_tokens": 1, "completion_tokens": 4, "total_tokens": 5}
    for index in (0, 1):
        own = [delta for delta in deltas if delta["index"] == index]
        assert own[0]["delta"]["role"] == "assistant"
        assert "".join(delta["delta"]["content"] or "" for delta in own) == "bc"
        assert own[-1]["finish_reason"] == "length"


def test_logprobs_of_a_conversation_come_with_bytes() -> None:
    (choice,) = chat({"role": "user", "content": "a"}, max_tokens=1, logprobs=True, top_logprobs=2).json["choices"]
    (token,) = choice["logprobs"]["content"]
    assert (token["token"], token["bytes"]) == ("b", [ord("b")])
    assert token["logprob"] == pytest.approx(LOGPROB)
    assert [top["token"] for top in token["top_logprobs"]][:1] == ["b"]


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"prompt": [A, "b"]}, "prompt", "a list of token ids"),
        ({"prompt": []}, "prompt", "none is empty"),
        ({"prompt": [[]]}, "prompt", "none is empty"),
        ({"prompt": {}}, "prompt", "must be a string"),
        ({"prompt": [True]}, "prompt", "must be a string"),
        ({"prompt": [1.5]}, "prompt", "must be a string"),
        ({"prompt": [999]}, "prompt", "999 is not in the vocabulary of 259"),
        ({"prompt": [-1]}, "prompt", "must be a string"),
        ({"prompt": "x" * CONTEXT}, "prompt", "the prompt has 17 tokens; the model's context is 16"),
        ({"prompt": ["a"] * 65, "n": 2}, "n", "more than 128 answers"),
        ({"max_tokens": 11}, "max_tokens", "at most 10"),
        ({"max_tokens": -1}, "max_tokens", "greater than or equal to 0"),
        ({"max_tokens": "7"}, "max_tokens", "valid integer"),
        ({"max_tokens": 7.5}, "max_tokens", "valid integer"),
        ({"max_tokens": True}, "max_tokens", "valid integer"),
        ({"max_tokens": 10**90}, "max_tokens", "at most 10"),
        ({"n": 0}, "n", "greater than or equal to 1"),
        ({"n": 10**9}, "n", "less than or equal to 128"),
        ({"best_of": 3}, "best_of", "only the value of n"),
        ({"suffix": "x"}, "suffix", "''"),
        ({"stop": 7}, "stop", "a string or a list"),
        ({"stop": ["a"] * 17}, "stop", "at most 16"),
        ({"temperature": -1}, "temperature", "greater than or equal to 0"),
        ({"temperature": "hot"}, "temperature", "valid number"),
        ({"top_p": 1.5}, "top_p", "less than or equal to 1"),
        ({"seed": 2**63}, "seed", "less than"),
        ({"seed": 1.5}, "seed", "valid integer"),
        ({"logprobs": 21}, "logprobs", "less than or equal to 20"),
        ({"logit_bias": {"300": 1}}, "logit_bias", "'300' is not an id"),
        ({"logit_bias": {"x": 1}}, "logit_bias", "'x' is not an id"),
        ({"logit_bias": {"\u0663": 1}}, "logit_bias", "is not an id"),
        ({"logit_bias": []}, "logit_bias", "valid dictionary"),
        ({"stream": 1}, "stream", "valid boolean"),
        ({"stream_options": {"usage": True}}, "stream_options.usage", "is no parameter"),
        ({"grammar": "root ::= x"}, "grammar", "is no parameter of this server"),
        ({"model": None}, "model", "required"),
    ],
)
def test_what_is_wrong_is_refused_by_name(change: dict[str, object], param: str, words: str) -> None:
    status, _, named, message = complete(**({"prompt": "a"} | change)).error()  # type: ignore[arg-type]
    assert (status, named) == (400, param)
    assert words in message


@pytest.mark.parametrize(
    ("messages", "change", "words"),
    [
        ([], {}, "at least 1"),
        ([{"role": "tool", "content": "x"}], {}, "'system'"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}], {}, "not supported"),
        ([{"role": "user", "content": 7}], {}, "must be a string or a list of parts"),
        ([{"role": "assistant", "content": "x"}], {}, "chat template refuses the conversation: no assistant"),
        (
            [{"role": "user", "content": "divide"}],
            {},
            "refuses the conversation: integer division or modulo by zero",
        ),
        ([{"role": "user", "content": "x" * 17}], {}, "the model's context is 16"),
        ([{"role": "user", "content": "x"}], {"model": "base"}, "use /v1/completions"),
        ([{"role": "user", "content": "x"}], {"tools": [{"type": "function"}]}, "at most 0"),
        ([{"role": "user", "content": "x"}], {"response_format": {"type": "json_object"}}, "'text'"),
        ([{"role": "user", "content": "x"}], {"n": 129}, "less than or equal to 128"),
    ],
)
def test_conversations_that_cannot_be_answered_are_refused(
    messages: list[object], change: dict[str, object], words: str
) -> None:
    status, _, _, message = chat(*messages, **change).error()
    assert status == 400
    assert words in message


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "Expecting value"),
        (b"{", "Expecting property name"),
        (b"\xff", "invalid start byte"),
        (b"[1]", "not a JSON object"),
        (b"[" * 2000, "nested too deeply"),
        (b'{"a":' * 1000, "nested too deeply"),
        (b'{"model":"base","metadata":{"a":' + b"[" * 900 + b"]" * 900 + b"}}", "nested too deeply"),
        (b'{"model":"base","temperature":NaN}', "NaN is not a JSON number"),
        (b'{"model":"base","temperature":-Infinity}', "-Infinity is not a JSON number"),
        (b'{"model":"base","temperature":1e999}', "finite number"),
        (b'{"model":"base","temperature":' + b"9" * 100 + b"}", "less than or equal to 100"),
        (b'{"model":"base","seed":' + b"9" * 1900 + b"}", "a number has 1,900 digits"),
    ],
)
def test_hostile_bodies_are_the_clients_mistake(body: bytes, words: str) -> None:
    status, _, _, message = ask(COMPLETIONS, body, limits=Limits(max_tokens=10, requests=2, body=5000)).error()
    assert status == 400
    assert words in message


@pytest.mark.parametrize("key", ["prompt", "stop", "user"])
def test_surrogates_without_a_partner_become_the_replacement_character(key: str) -> None:
    asked = {"model": "base", "prompt": "a", "temperature": 0, "max_tokens": 1, "echo": True}
    reply = ask(COMPLETIONS, asked | {key: "\ud83d"})
    assert reply.json["choices"][0]["text"] == ("\ufffd\ufffd" if key == "prompt" else "ab")
    assert ask(COMPLETIONS, asked | {"prompt": "🦙"}).json["choices"][0]["text"].startswith("🦙")
    assert chat({"role": "user", "content": "\udc00"}, max_tokens=1).status == 200
    assert ask(COMPLETIONS, asked | {"model": "\ud83d"}).error()[:2] == (404, "model_not_found")
    assert ask(COMPLETIONS, asked | {"\ud83d": 1}).error()[:2] == (400, "unknown_parameter")


def test_models_are_listed_and_found_by_name() -> None:
    listed = ask(MODELS, method="GET").json
    assert [model["id"] for model in listed["data"]] == ["base", "chat", "other", "failing"]
    assert ask(f"{MODELS}/chat", method="GET").json == listed["data"][1]
    for name in ("nobody", "", "base/x", "../health"):
        assert ask(f"{MODELS}/{name}", method="GET").error()[:2] == (404, "model_not_found")
    assert complete("nobody", prompt="a").error()[:2] == (404, "model_not_found")


def test_the_same_seed_gives_the_same_text() -> None:
    asked = {"prompt": "a", "temperature": 10, "max_tokens": 10, "n": 2}
    first, again, other = (texts(complete(**asked, seed=seed)) for seed in (7, 7, -(2**63)))
    assert first == again
    assert first[0] != first[1]
    assert first != other


@pytest.mark.parametrize(
    "narrow", [{"top_p": 0}, {"top_k": 1}, {"min_p": 1}, {"temperature": 0}, {"logit_bias": {str(A + 1): 100}}]
)
def test_sampling_can_be_narrowed_to_the_likeliest_token(narrow: dict[str, object]) -> None:
    asked = {"prompt": "a", "temperature": 10, "max_tokens": 1, "n": 20, "seed": 1}
    assert set(texts(complete(**(asked | narrow)))) == {"b"}


@pytest.mark.parametrize("penalty", ["presence_penalty", "frequency_penalty"])
def test_penalties_count_new_tokens_only(penalty: str) -> None:
    asked = {"prompt": "aq", "temperature": 0, "max_tokens": 3, "logit_bias": {str(A): 10}}
    assert texts(complete(**asked)) == ["aaa"]
    assert texts(complete(**asked, **{penalty: 2})) == ["abc"]


def test_an_engine_that_fails_is_an_error_before_and_within_a_stream() -> None:
    assert complete("failing", prompt="ab").error()[:2] == (500, "internal_error")
    reply = complete("failing", prompt="a", stream=True, temperature=0)
    first, last = [json.loads(line.removeprefix("data: ")) for line in reply.body.decode().split("\n\n")[:-1]]
    assert first["choices"][0]["text"]
    assert last["error"]["message"] == "the engine failed: out of memory"


def test_work_ends_when_the_client_leaves() -> None:
    async def leave() -> tuple[Reply, Reply]:
        app, gone = stand_in(), asyncio.Event()
        gone.set()
        left = await request(app, COMPLETIONS, b'{"model": "base", "prompt": ["a", "b"], "n": 64}', leave=gone)
        return left, await request(app, COMPLETIONS, b'{"model": "base", "prompt": "a"}')

    left, after = asyncio.run(leave())
    assert (left.status, after.status) == (0, 200)
