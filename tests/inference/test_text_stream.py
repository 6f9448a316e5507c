from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tinyllama.inference import stream_batch
from tinyllama.inference.text_stream import TextStream
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer
from tinyllama.tokenizer.training import train_model

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

VOCABULARY = 300
TEXT = "the small cat sat on the mat and the other cat ran after that rat; then both slept all day. "


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> SentencePieceTokenizer:
    """Its few characters make every other one a sequence of bytes."""
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.model"
    path.write_bytes(train_model([TEXT * 20], VOCABULARY))
    return SentencePieceTokenizer(path)


def ids_of(tokenizer: SentencePieceTokenizer, text: str) -> list[int]:
    return tokenizer.encode([text])[0]


def stream(
    tokenizer: SentencePieceTokenizer, prompt: list[int], new: Iterable[int], stops: Sequence[str] = ()
) -> Iterator[str]:
    """What each new token adds to one text, and what comes at the end."""
    return (piece for (piece,) in stream_batch(tokenizer, [prompt], ([token] for token in new), stops))


def streamed(tokenizer: SentencePieceTokenizer, prompt: list[int], new: list[int]) -> list[str]:
    return [piece for piece in stream(tokenizer, prompt, new) if piece]


def test_pieces_joined_are_the_continuation(tokenizer: SentencePieceTokenizer) -> None:
    prompt, whole = ids_of(tokenizer, "the small cat"), ids_of(tokenizer, "the small cat sat on the mat")
    assert whole[: len(prompt)] == prompt
    assert "".join(streamed(tokenizer, [tokenizer.bos_id, *prompt], whole[len(prompt) :])) == " sat on the mat"


@given(
    prompt=st.lists(st.integers(0, VOCABULARY - 1), max_size=6),
    new=st.lists(st.integers(0, VOCABULARY - 1), max_size=12),
)
def test_nothing_is_lost_or_said_twice_whatever_the_ids(
    tokenizer: SentencePieceTokenizer, prompt: list[int], new: list[int]
) -> None:
    before, whole = tokenizer.decode(prompt), tokenizer.decode(prompt + new)
    if not whole.startswith(before):  # new bytes finished a character of the prompt
        before = before.rstrip("\ufffd")
    assert before + "".join(streamed(tokenizer, prompt, new)) == whole


def test_a_character_of_many_bytes_comes_whole(tokenizer: SentencePieceTokenizer) -> None:
    new = ids_of(tokenizer, "你好 🚀é")
    assert len(new) > 12
    pieces = streamed(tokenizer, [tokenizer.bos_id], new)
    assert "".join(pieces) == "你好 🚀é"
    assert not any("\ufffd" in piece for piece in pieces)
    assert {"你", "好", "🚀", "é"} <= set(pieces)


def test_a_character_that_the_prompt_began_is_finished(tokenizer: SentencePieceTokenizer) -> None:
    whole = ids_of(tokenizer, "cat 你 sat")
    bytes_begin = next(i for i in range(len(whole)) if tokenizer.decode(whole[: i + 1]).endswith("\ufffd"))
    for cut in (bytes_begin + 1, bytes_begin + 2):
        assert "".join(streamed(tokenizer, whole[:cut], whole[cut:])) == "你 sat"


def test_bytes_that_never_become_a_character_come_at_the_end(tokenizer: SentencePieceTokenizer) -> None:
    unfinished = ids_of(tokenizer, "cat 你")[:-1]
    prompt = ids_of(tokenizer, "cat")
    assert streamed(tokenizer, prompt, unfinished[len(prompt) :])[-1].endswith("\ufffd")


def test_a_replacement_character_in_the_prompt_is_not_repeated(tokenizer: SentencePieceTokenizer) -> None:
    prompt = ids_of(tokenizer, "cat \ufffd")
    assert streamed(tokenizer, prompt, []) == []
    assert "".join(streamed(tokenizer, prompt, ids_of(tokenizer, "cat \ufffd sat")[len(prompt) :])) == " sat"


def test_text_comes_as_soon_as_its_token(tokenizer: SentencePieceTokenizer) -> None:
    read: list[int] = []

    def tokens() -> Iterator[int]:
        for token in ids_of(tokenizer, "the cat sat"):
            read.append(token)
            yield token

    next(stream(tokenizer, [tokenizer.bos_id], tokens()))
    assert len(read) == 1


def stopped(tokenizer: SentencePieceTokenizer, text: str, *stops: str) -> list[str]:
    """Pieces of a text after an empty prompt."""
    return list(stream(tokenizer, [tokenizer.bos_id], ids_of(tokenizer, text), stops))


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        (["sat"], "the small cat "),
        (["mat", "cat s"], "the small "),
        (["never"], "the small cat sat on"),
        (["on and on"], "the small cat sat on"),  # only begun: given out at the end
        (["the small"], ""),
        (["cat sat on", "at"], "the small c"),  # the one that is complete first
    ],
)
def test_the_text_ends_before_the_stop_string_that_is_complete_first(
    tokenizer: SentencePieceTokenizer, stops: list[str], expected: str
) -> None:
    assert "".join(stopped(tokenizer, "the small cat sat on", *stops)) == expected


@given(text=st.text("abc", max_size=12), stops=st.lists(st.text("abc", min_size=1, max_size=4), max_size=3))
def test_no_piece_has_to_be_taken_back(tokenizer: SentencePieceTokenizer, text: str, stops: list[str]) -> None:
    growing, given_out, pushed = TextStream(tokenizer, [tokenizer.bos_id], stops), "", []
    for token in ids_of(tokenizer, text):
        pushed.append(token)
        given_out += growing.push(token)
        so_far = tokenizer.decode(pushed)
        assert so_far.startswith(given_out)
        if growing.stopped:
            assert any(so_far.startswith(given_out + stop) for stop in stops)
            break
    else:
        assert not any(stop in text for stop in stops)
    assert not any(stop in given_out for stop in stops)


def test_a_stop_string_in_the_prompt_does_not_count(tokenizer: SentencePieceTokenizer) -> None:
    prompt, whole = ids_of(tokenizer, "the cat"), ids_of(tokenizer, "the cat sat")
    assert "".join(stream(tokenizer, prompt, whole[len(prompt) :], ["cat"])) == " sat"


def test_no_token_is_read_after_a_stop_string(tokenizer: SentencePieceTokenizer) -> None:
    new = iter(ids_of(tokenizer, "the cat sat on the mat"))
    list(stream(tokenizer, [tokenizer.bos_id], new, ["cat"]))
    assert next(new, None) is not None
