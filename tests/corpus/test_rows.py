from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyllama.corpus.rows import IGNORED, Rows
from tinyllama.corpus.shards import ShardWriter, TokenStream, token_dtype
from tinyllama.errors import CorpusError


def _stream(folder: Path, tokens: int, shard_tokens: int) -> TokenStream:
    writer = ShardWriter(folder, "train", token_dtype(60_000), shard_tokens)
    for start in range(0, tokens, 7):
        writer.append(range(start, min(start + 7, tokens)))
    writer.close()
    files = [folder / shard.file for shard in writer.shards]
    return TokenStream(files, [shard.tokens for shard in writer.shards], token_dtype(60_000))


@settings(max_examples=300, deadline=None)
@given(tokens=st.integers(2, 200), context=st.integers(1, 40), shard_tokens=st.integers(1, 64))
def test_targets_are_disjoint_and_cover_the_corpus_without_padding(
    tmp_path_factory: pytest.TempPathFactory, tokens: int, context: int, shard_tokens: int
) -> None:
    stream = _stream(tmp_path_factory.mktemp("shards"), tokens, shard_tokens)
    if tokens < context + 1:
        with pytest.raises(CorpusError, match="less than one row"):
            Rows(stream, context, "it")
        return
    rows = Rows(stream, context, "it")
    predicted: list[int] = []
    for index in range(len(rows)):
        inputs, targets = rows.row(index)
        assert len(inputs) == len(targets) == context
        kept = targets != IGNORED
        assert (targets[kept] == inputs[kept] + 1).all()  # the stream counts up, so a target follows its input
        predicted += targets[kept].tolist()
    assert predicted == list(range(1, tokens))
    assert rows.targets == tokens - 1


def test_a_shard_is_hashed_as_it_is_written(tmp_path: Path) -> None:
    from tinyllama.files import sha256_file

    writer = ShardWriter(tmp_path, "train", token_dtype(100), 10)
    writer.append(range(25))
    writer.close()
    assert [shard.tokens for shard in writer.shards] == [10, 10, 5]
    assert all(shard.sha256 == sha256_file(tmp_path / shard.file) for shard in writer.shards)


def test_ids_take_two_bytes_up_to_65536_tokens_and_four_above() -> None:
    assert token_dtype(65_536).itemsize == 2
    assert token_dtype(65_537).itemsize == 4


def test_a_stream_reads_across_shards(tmp_path: Path) -> None:
    stream = _stream(tmp_path, 50, 8)
    assert (stream.read(5, 30) == np.arange(5, 35)).all()
