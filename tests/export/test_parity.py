from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from tinyllama.errors import ExportError
from tinyllama.export.parity import check_parity
from tinyllama.files import write_json
from tinyllama.formats.huggingface.config import config_of_shape
from tinyllama.formats.huggingface.state_dict import write_weights
from tinyllama.model import Llama

if TYPE_CHECKING:
    from pathlib import Path


def written(model: Llama, folder: Path, dtype: torch.dtype = torch.float32, **changes: object) -> Path:
    config = config_of_shape(model.shape, dtype=dtype, bos_id=1, eos_id=2)
    write_json(folder / "config.json", config | changes)
    write_weights(model.state_dict(), model.shape, folder, dtype)
    return folder


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_logits_of_the_stored_weights_equal_transformers(tmp_path: Path, model: Llama, dtype: torch.dtype) -> None:
    result = check_parity(model.state_dict(), model.shape, written(model, tmp_path, dtype), dtype)
    assert result.largest_difference <= 1e-5
    assert result.tokens == 2 * model.shape.context


def test_the_model_itself_is_not_rounded(tmp_path: Path, model: Llama) -> None:
    before = model.lm_head.weight.clone()
    check_parity(model.state_dict(), model.shape, written(model, tmp_path, torch.bfloat16), torch.bfloat16)
    assert torch.equal(model.lm_head.weight, before)


@pytest.mark.parametrize(
    "changes",
    [
        {"rms_norm_eps": 1e-3},
        {"rope_parameters": {"rope_type": "default", "rope_theta": 9000.0}},
    ],
)
def test_a_config_that_is_a_little_wrong_is_caught(tmp_path: Path, model: Llama, changes: dict[str, object]) -> None:
    with pytest.raises(ExportError, match="not written"):
        check_parity(model.state_dict(), model.shape, written(model, tmp_path, **changes), torch.float32)


def test_one_wrong_weight_is_caught(tmp_path: Path, model: Llama) -> None:
    written(model, tmp_path)
    with torch.no_grad():
        model.layers[1].self_attn.k_proj.weight[3, 5] += 0.1
    with pytest.raises(ExportError, match="not written"):
        check_parity(model.state_dict(), model.shape, tmp_path, torch.float32)


def test_weights_that_are_not_finite_are_caught(tmp_path: Path, model: Llama) -> None:
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(ExportError, match="nan"):
        check_parity(model.state_dict(), model.shape, written(model, tmp_path), torch.float32)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_streamed_check_finds_what_a_check_of_the_whole_finds(
    tmp_path: Path, model: Llama, dtype: torch.dtype
) -> None:
    folder = written(model, tmp_path, dtype)
    whole = check_parity(model.state_dict(), model.shape, folder, dtype)
    assert check_parity(model.state_dict(), model.shape, folder, dtype, whole=0) == whole
    with torch.no_grad():
        model.layers[1].mlp.down_proj.weight[3, 5] += 0.1
    with pytest.raises(ExportError, match="not written"):
        check_parity(model.state_dict(), model.shape, folder, dtype, whole=0)


def test_a_streamed_check_reads_parts_and_ties(tmp_path: Path, model: Llama) -> None:
    tied = Llama(model.shape.model_copy(update={"tied_embeddings": True}))
    tied.initialize(0)
    config = config_of_shape(tied.shape, dtype=torch.float32, bos_id=1, eos_id=2)
    write_json(tmp_path / "config.json", config)
    write_weights(tied.state_dict(), tied.shape, tmp_path, torch.float32, shard_bytes=50_000)
    assert check_parity(tied.state_dict(), tied.shape, tmp_path, torch.float32, whole=0).passed
