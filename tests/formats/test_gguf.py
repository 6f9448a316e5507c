"""GGUF files as other programs write them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch

from tinyllama.errors import ModelError
from tinyllama.export.parity import check_parity
from tinyllama.formats.gguf.file import GgufFile, is_gguf
from tinyllama.formats.gguf.tensors import GgufWeights, from_gguf_rows, gguf_name, to_gguf_rows
from tinyllama.formats.open import open_model
from tinyllama.model import Llama
from tinyllama.recipe import ModelShape

if TYPE_CHECKING:
    from pathlib import Path

gguf = pytest.importorskip("gguf", reason="the extra gguf")

SHAPE = ModelShape(layers=1, width=256, ffn=512, heads=4, kv_heads=2, context=64, vocab_size=96)
QUANTIZABLE = ("BF16", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q8_0", "TQ1_0", "TQ2_0", "F16", "F32")


def random_model(shape: ModelShape = SHAPE) -> Llama:
    model = Llama(shape)
    model.initialize(0)
    return model.requires_grad_(requires_grad=False)


def write_file(path: Path, model: Llama, kind: str = "F32", **changes: Any) -> Path:  # noqa: ANN401  # any value
    """A file with our tensors, and metadata in the words of llama.cpp."""
    shape = model.shape
    writer = gguf.GGUFWriter(path, changes.pop("architecture", "llama"))
    facts = {
        "context_length": shape.context,
        "embedding_length": shape.width,
        "block_count": shape.layers,
        "feed_forward_length": shape.ffn,
        "head_count": shape.heads,
        "head_count_kv": shape.kv_heads,
        "layer_norm_rms_eps": shape.norm_eps,
    }
    extra = changes.pop("extra", {})
    for key, value in (facts | changes).items():
        if value is not None:
            getattr(writer, f"add_{key}")(value)
    for name, weight in model.named_parameters():
        rows = to_gguf_rows(name, weight, shape).contiguous().numpy()
        kind_here = gguf.GGMLQuantizationType["F32" if weight.dim() == 1 else kind]
        writer.add_tensor(gguf_name(name), gguf.quantize(rows, kind_here), raw_dtype=kind_here)
    for name, array in extra.items():
        writer.add_tensor(name, array)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("kind", QUANTIZABLE)
def test_tensors_of_every_kind_are_what_the_gguf_package_makes_of_them(tmp_path: Path, kind: str) -> None:
    model = random_model()
    loaded = open_model(write_file(tmp_path / "a.gguf", model, kind)).load()
    assert loaded.shape == SHAPE
    number = gguf.GGMLQuantizationType[kind]
    for name, weight in model.named_parameters():
        expected = weight
        if weight.dim() == 2:
            stored = gguf.quantize(to_gguf_rows(name, weight, SHAPE).contiguous().numpy(), number)
            expected = from_gguf_rows(name, torch.from_numpy(gguf.dequantize(stored, number).copy()), SHAPE)
        assert torch.equal(loaded.get_parameter(name), expected), name


def weights_with_one_tensor(path: Path, array: np.ndarray, **form: Any) -> GgufWeights:  # noqa: ANN401  # any value
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_tensor("blk.0.ffn_up.weight", array, **form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return GgufWeights(GgufFile(path), SHAPE)


@pytest.mark.parametrize("kind", ["Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ4_XS", "IQ2_XXS", "IQ1_S"])
def test_kinds_that_only_llama_cpp_writes_are_read(tmp_path: Path, kind: str) -> None:
    number = gguf.GGMLQuantizationType[kind]
    sizes = gguf.quant_shape_to_byte_shape((SHAPE.ffn, SHAPE.width), number)
    raw = np.zeros(sizes, np.uint8)
    weights = weights_with_one_tensor(tmp_path / "a.gguf", raw, raw_dtype=number)
    assert weights["layers.0.mlp.up_proj.weight"].shape == (SHAPE.ffn, SHAPE.width)


def test_a_type_that_cannot_be_dequantized_is_named_with_what_to_get_instead(tmp_path: Path) -> None:
    array = np.zeros((SHAPE.ffn, SHAPE.width), np.int8)
    weights = weights_with_one_tensor(tmp_path / "a.gguf", array)
    with pytest.raises(ModelError, match=r"ffn_up\.weight is of type I8.*get the model in another type"):
        weights["layers.0.mlp.up_proj.weight"]


def test_the_order_of_rows_is_that_of_neighboring_pairs() -> None:
    rows = torch.arange(SHAPE.width)[:, None].expand(-1, SHAPE.width)
    name = "layers.0.self_attn.q_proj.weight"
    stored = to_gguf_rows(name, rows, SHAPE)
    half = SHAPE.head_size // 2
    assert stored[:4, 0].tolist() == [0, half, 1, half + 1]
    assert torch.equal(from_gguf_rows(name, stored, SHAPE), rows)


def test_a_tied_file_has_no_output_and_stays_tied(tmp_path: Path) -> None:
    tied = random_model(SHAPE.model_copy(update={"tied_embeddings": True}))
    loaded = open_model(write_file(tmp_path / "a.gguf", tied)).load()
    assert loaded.lm_head.weight is loaded.embed_tokens.weight


def test_numbers_come_back_as_they_were_written(tmp_path: Path) -> None:
    model = random_model(SHAPE.model_copy(update={"norm_eps": 1e-6, "rope_theta": 250000.0}))
    path = write_file(tmp_path / "a.gguf", model, rope_freq_base=250000.0)
    assert open_model(path).load().shape == model.shape


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "qwen2"}, "'qwen2'"),
        ({"expert_count": 8}, "mixture of experts"),
        ({"rope_dimension_count": 32}, "rope.dimension_count is 32"),
        ({"extra": {"rope_freqs.weight": np.arange(1, 33, dtype=np.float32)}}, "other factors than Llama 3's"),
        ({"rope_scaling_type": gguf.RopeScalingType.LONGROPE}, "'longrope' is not supported"),
        ({"rope_scaling_type": gguf.RopeScalingType.LINEAR, "rope_scaling_factor": 0.5}, "factor: input should be"),
        ({"extra": {"blk.0.attn_q.bias": np.ones(256, np.float32)}}, r"biases \(blk.0.attn_q.bias"),
        ({"extra": {"blk.0.more.weight": np.ones(4, np.float32)}}, r"unexpected: blk.0.more.weight"),
        ({"head_count": None}, "attention.head_count is missing"),
        ({"feed_forward_length": 256}, r"blk.0.ffn_gate.weight has shape"),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ModelError, match=message):
        open_model(write_file(tmp_path / "a.gguf", random_model(), **changes)).load()


@pytest.mark.parametrize("content", [b"", b"GGUF", b"GGUF\x03\x00\x00\x00" + b"\xff" * 60])
def test_a_damaged_file_is_named(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.gguf"
    path.write_bytes(content)
    assert is_gguf(path) == content.startswith(b"GGUF")
    with pytest.raises(ModelError, match=r"a\.gguf: cannot be read as GGUF"):
        GgufFile(path)


def write_parts(folder: Path, model: Llama, count: int) -> list[Path]:
    """A file in parts as llama-gguf-split makes them: the metadata in the first, tensors in all."""
    whole = gguf.GGUFReader(write_file(folder / "whole.gguf", model))
    (folder / "whole.gguf").unlink()
    paths = [folder / f"big-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]
    for number, path in enumerate(paths):
        writer = gguf.GGUFWriter(path, "llama")
        writer.add_uint16("split.no", number)
        writer.add_uint16("split.count", count)
        for field in whole.fields.values() if number == 0 else ():
            if field.name.startswith("llama."):
                writer.add_key_value(field.name, field.contents(), field.types[0])
        for tensor in whole.tensors[number::count]:
            writer.add_tensor(tensor.name, tensor.data.copy())
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return paths


def test_a_file_in_parts_is_one_model_by_the_name_of_any_part_or_of_the_folder(tmp_path: Path) -> None:
    model = random_model()
    parts = write_parts(tmp_path, model, 3)
    for name in (parts[0], parts[2], tmp_path):
        loaded = open_model(name).load()
        assert all(torch.equal(loaded.get_parameter(key), weight) for key, weight in model.named_parameters())
    assert len({open_model(part).weights_sha256 for part in parts}) == 1
    assert check_parity(open_model(parts[1]).weights, SHAPE, open_model(parts[1]).path, torch.float32).passed


def test_a_part_that_is_missing_or_renamed_is_named(tmp_path: Path) -> None:
    parts = write_parts(tmp_path, random_model(), 2)
    parts[1].rename(tmp_path / "other.gguf")
    with pytest.raises(ModelError, match=r"big-00002-of-00002.gguf: this part of a GGUF file is not there"):
        open_model(parts[0])
    with pytest.raises(ModelError, match=r"other.gguf: is one of 2 parts; give all of them the names"):
        open_model(tmp_path / "other.gguf")
