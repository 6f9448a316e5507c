"""Models and evaluation data that are damaged, or hold what nobody expects."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from gguf import GGUFWriter
from safetensors.torch import save_file
from sentencepiece import sentencepiece_model_pb2

from tests.field.commands import Commands
from tests.field.conftest import RECIPE, Run

CONFIG = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "hidden_size": 8,
    "intermediate_size": 16,
    "max_position_embeddings": 32,
    "num_attention_heads": 2,
    "num_hidden_layers": 1,
    "num_key_value_heads": 1,
    "rms_norm_eps": 1e-5,
    "vocab_size": 300,
}
SHAPES = {
    "model.embed_tokens.weight": (300, 8),
    "model.layers.0.input_layernorm.weight": (8,),
    "model.layers.0.self_attn.q_proj.weight": (8, 8),
    "model.layers.0.self_attn.k_proj.weight": (4, 8),
    "model.layers.0.self_attn.v_proj.weight": (4, 8),
    "model.layers.0.self_attn.o_proj.weight": (8, 8),
    "model.layers.0.post_attention_layernorm.weight": (8,),
    "model.layers.0.mlp.gate_proj.weight": (16, 8),
    "model.layers.0.mlp.up_proj.weight": (16, 8),
    "model.layers.0.mlp.down_proj.weight": (8, 16),
    "model.norm.weight": (8,),
    "lm_head.weight": (300, 8),
}
TENSORS = {name: torch.ones(size) for name, size in SHAPES.items()}
GENERATE = ("The river", "--max-new-tokens", "2")


@pytest.fixture(scope="session")
def prepared(commands: Commands, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a prepared family."""
    folder = tmp_path_factory.mktemp("prepared")
    (folder / "text").mkdir()
    for number in range(24):
        sentences = (f"The river {number * 60 + line} runs to the sea of {line % 7}." for line in range(60))
        (folder / f"text/{number:02}.txt").write_text("\n".join(sentences), encoding="utf-8")
    (folder / "field.yaml").write_text(RECIPE, encoding="utf-8")
    commands.run("prepare", "field.yaml", cwd=folder).succeeded()
    return folder


@pytest.fixture
def model(prepared: Path, tmp_path: Path) -> Path:
    """A Hugging Face folder."""
    folder = tmp_path / "model"
    folder.mkdir()
    shutil.copy(prepared / "runs/field/tokenizer/tokenizer.model", folder)
    (folder / "config.json").write_text(json.dumps(CONFIG), encoding="utf-8")
    save_file(TENSORS, folder / "model.safetensors")
    return folder


def configure(model: Path, **keys: object) -> None:
    (model / "config.json").write_text(json.dumps({**CONFIG, **keys}), encoding="utf-8")


def test_the_model_of_these_tests_generates(model: Path, tinyllama: Run) -> None:
    tinyllama("generate", model, *GENERATE).succeeded()


@pytest.mark.parametrize(
    ("key", "value"),
    [("rope_scaling", "linear"), ("rope_parameters", [1]), ("rope_theta", 10**400), ("rope_theta", [])],
    ids=["text", "list", "huge", "list-for-a-number"],
)
def test_a_config_with_an_odd_rope_is_refused(model: Path, tinyllama: Run, key: str, value: object) -> None:
    configure(model, **{key: value})
    assert key in tinyllama("generate", model, *GENERATE).refused()


def test_json_that_nests_deeply_is_refused(model: Path, tinyllama: Run) -> None:
    (model / "config.json").write_text("[" * 100_000, encoding="utf-8")
    assert "config.json" in tinyllama("generate", model, *GENERATE).refused()


@pytest.mark.parametrize("index", [[], {"weight_map": ["model.safetensors"]}, {"weight_map": {"lm_head.weight": 3}}])
def test_an_odd_index_of_weights_is_refused(model: Path, tinyllama: Run, index: object) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    assert "model.safetensors.index.json" in tinyllama("generate", model, *GENERATE).refused()


def test_tensors_without_names_are_refused(model: Path, tinyllama: Run) -> None:
    (model / "model.safetensors").unlink()
    torch.save({1: torch.ones(2)}, model / "pytorch_model.bin")
    assert "pytorch_model.bin" in tinyllama("generate", model, *GENERATE).refused()


@pytest.mark.parametrize(
    "data", [b"", b"\x80\x02", b"\x80\x02cbuiltins\nint\n.", b"\x80\x02]q\x00h\x05.", b"a.", b"PK"]
)
def test_a_damaged_pickle_is_refused(model: Path, tinyllama: Run, data: bytes) -> None:
    (model / "model.safetensors").unlink()
    (model / "pytorch_model.bin").write_bytes(data)
    assert "pytorch_model.bin" in tinyllama("generate", model, *GENERATE).refused()


def test_weights_of_another_shape_are_not_converted(model: Path, tinyllama: Run) -> None:
    configure(model, num_key_value_heads=2)
    assert "k_proj" in tinyllama("export", model, "--format", "gguf").refused()
    assert not model.with_name("model-F16-gguf").exists()


def write_gguf(model: Path, change: Callable[[dict[str, list[Any]]], object], **keys: str | int) -> Path:
    """The model as a GGUF file, after a change of its vocabulary and with further keys."""
    vocabulary: Any = sentencepiece_model_pb2.ModelProto.FromString((model / "tokenizer.model").read_bytes())
    lists = {
        "tokens": [piece.piece for piece in vocabulary.pieces],
        "scores": [piece.score for piece in vocabulary.pieces],
        "token_type": [int(piece.type) for piece in vocabulary.pieces],
    }
    change(lists)
    writer = GGUFWriter(model.with_suffix(".gguf"), "llama")
    writer.add_block_count(1)
    writer.add_embedding_length(8)
    writer.add_feed_forward_length(16)
    writer.add_head_count(2)
    writer.add_head_count_kv(1)
    writer.add_context_length(32)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_tokenizer_model("llama")
    for key, values in lists.items():
        writer.add_array(f"tokenizer.ggml.{key}", values)
    for key, value in {"bos_token_id": 1, "eos_token_id": 2, **keys}.items():
        name = key if "." in key else f"tokenizer.ggml.{key}"
        (writer.add_string(name, value) if isinstance(value, str) else writer.add_uint32(name, value))
    for name, tensor in TENSORS.items():
        writer.add_tensor(gguf_name(name), tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return model.with_suffix(".gguf")


def gguf_name(name: str) -> str:
    for theirs, ours in (
        ("model.layers.", "blk."),
        ("model.embed_tokens", "token_embd"),
        ("model.norm", "output_norm"),
        ("lm_head", "output"),
        ("input_layernorm", "attn_norm"),
        ("post_attention_layernorm", "ffn_norm"),
        ("self_attn.o_proj", "attn_output"),
        ("self_attn.", "attn_"),
        ("mlp.", "ffn_"),
        ("_proj", ""),
    ):
        name = name.replace(theirs, ours)
    return name


def test_the_gguf_file_of_these_tests_generates(model: Path, tinyllama: Run) -> None:
    tinyllama("generate", write_gguf(model, lambda _: None), *GENERATE).succeeded()


@pytest.mark.parametrize(
    ("key", "change"),
    [
        ("scores", lambda lists: lists["scores"].pop()),
        ("token_type", lambda lists: lists["token_type"].append(1)),
        ("token_type", lambda lists: lists["token_type"].__setitem__(5, 99)),
        ("tokens", lambda lists: lists.update(tokens=[1, 2, 3])),
        ("scores", lambda lists: lists.update(scores=["a"] * 300)),
    ],
    ids=["fewer-scores", "more-kinds", "an-unknown-kind", "numbers-for-texts", "texts-for-numbers"],
)
def test_an_odd_vocabulary_in_gguf_is_refused(
    model: Path, tinyllama: Run, key: str, change: Callable[[dict[str, list[Any]]], object]
) -> None:
    assert f"tokenizer.ggml.{key}" in tinyllama("generate", write_gguf(model, change), *GENERATE).refused()


@pytest.mark.parametrize(
    ("key", "value"), [("bos_token_id", 300), ("eos_token_id", 2**31), ("eos_token_id", "two"), ("split.count", "two")]
)
def test_an_odd_number_in_gguf_is_refused(model: Path, tinyllama: Run, key: str, value: str | int) -> None:
    file = write_gguf(model, lambda _: None, **{key: value})
    assert key in tinyllama("generate", file, *GENERATE).refused()


_LINES = ("deep", "long-number", "cut-off", "no-text")


@pytest.mark.parametrize("line", ["[" * 100_000, '{"id": ' + "9" * 5000 + "}", "{", '{"id": \ud83d}'], ids=_LINES)
def test_an_odd_line_of_task_data_is_refused(prepared: Path, tmp_path: Path, tinyllama: Run, line: str) -> None:
    (tmp_path / "arc_easy_test.jsonl").write_bytes(f"{line}\n".encode(errors="surrogatepass"))
    corpus = prepared / "runs/field/corpora/prose"
    refusal = tinyllama("contaminated", corpus, "--tasks", "arc_easy", "--data", tmp_path).refused()
    assert "arc_easy_test.jsonl" in refusal


@pytest.mark.parametrize("name", ["tokenizer_config.json", "chat_template.jinja"])
def test_damaged_settings_beside_a_tokenizer_are_refused_by_name(name: str, field: Path, tinyllama: Run) -> None:
    tinyllama("tokenizer", "train", "field.yaml", "--out", "tok").succeeded()
    (field / "tok" / name).write_bytes(b"[" * 100_000 if name.endswith(".json") else b"\xff\xfe")
    (field / "field.yaml").write_text(RECIPE.replace("train: {vocab_size: 300}", "file: tok/tokenizer.model"))
    assert name in tinyllama("prepare", "field.yaml").refused()


@pytest.mark.parametrize("fault", ["index", "ids"])
def test_a_damaged_corpus_is_refused_by_what_reads_its_texts(fault: str, field: Path, tinyllama: Run) -> None:
    tinyllama("prepare", "field.yaml").succeeded()
    corpus = field / "runs/field/corpora/prose"
    damaged = corpus / ("train.documents.parquet" if fault == "index" else "train-00000.bin")
    damaged.write_bytes(b"\xee" * damaged.stat().st_size)
    assert "prose" in tinyllama("corpus", "inspect", str(corpus), "--origin", "text").refused()


@pytest.mark.parametrize("name", ["tokenizer/tokenizer.json", "corpora/prose/train-00000.bin"])
def test_a_folder_of_the_users_in_the_place_of_one_of_our_files_is_kept(name: str, field: Path, tinyllama: Run) -> None:
    tinyllama("prepare", "field.yaml").succeeded()
    replaced = field / "runs/field" / name
    replaced.unlink()
    replaced.mkdir()
    (replaced / "keep.me").write_text("theirs")
    assert "tinyllama did not write this" in tinyllama("prepare", "field.yaml").refused()
    assert (replaced / "keep.me").read_text() == "theirs"
