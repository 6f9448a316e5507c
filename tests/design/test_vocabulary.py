import argparse
import inspect

from tinyllama.design.vocabulary import compare_tokenizers

SOURCE = inspect.getsource(argparse)
LATIN = [SOURCE[start : start + 1000] for start in range(0, len(SOURCE), 1000)]
GREEK = [f"Ένας αριθμός {number} και ό,τι βρίσκεται δίπλα του, χωρίς τέλος. " * 5 for number in range(60)]


def test_a_tokenizer_of_ones_own_is_measured_on_text_it_was_not_trained_on() -> None:
    unseen = [piece if number % 2 == 0 else piece.upper() for number, piece in enumerate(LATIN)]
    (usual,) = compare_tokenizers({"text": LATIN}, 400, "own")
    (other,) = compare_tokenizers({"text": unseen}, 400, "own")
    assert (usual.kind, usual.vocab_size) == ("own", 400)
    assert usual.overall > 1.8
    assert other.overall < usual.overall / 1.2  # which it would not be if it had learned capitals
    assert usual.training_seconds > 0
    assert usual.bytes_per_second > 0


def test_each_text_has_bytes_per_token_of_its_own_and_all_have_their_mean() -> None:
    (found,) = compare_tokenizers({"latin": LATIN, "greek": GREEK}, 400, "own")
    assert set(found.bytes_per_token) == {"latin", "greek"}
    assert min(found.bytes_per_token.values()) < found.overall < max(found.bytes_per_token.values())


def test_a_text_of_few_words_gets_a_smaller_vocabulary() -> None:
    (found,) = compare_tokenizers({"text": LATIN}, 16384, "own")
    assert found.vocab_size in {1024, 2048, 4096}
