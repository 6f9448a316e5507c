from __future__ import annotations

import json
import os
import re
import runpy
import signal
import time
from typing import TYPE_CHECKING

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig

from tests.export.disks import largest_file
from tests.train.processes import CONTEXT, silently
from tinyllama.errors import ExportError
from tinyllama.export import export_model, model_card
from tinyllama.export import folder as writing
from tinyllama.formats.open import open_model
from tinyllama.model import Llama
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.opening import open_tokenizer
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from pathlib import Path

    from tinyllama.export import ParityResult
    from tinyllama.recipe import Recipe


def exported(
    model: Llama, folder: Path, recipe: Recipe, tokenizer_model: Path, dtype: torch.dtype = torch.float32
) -> ParityResult:
    card = model_card(recipe, "math_code", plan_summary="Four rows.", bits_per_byte={}, tasks={}, tokens=120_000)
    return export_model(
        model.state_dict(),
        folder=folder,
        recipe=recipe,
        name="math_code",
        tokenizer=open_tokenizer(tokenizer_model.parent),
        card=card,
        dtype=dtype,
    )


@pytest.mark.filterwarnings("default")  # that torch_dtype is deprecated is a warning only
def test_the_quick_start_of_the_card_runs_unchanged(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = tmp_path / "model"
    exported(model, folder, recipe, tokenizer_model)
    code = re.search(r"```python\n(.*?)```", (folder / "README.md").read_text(), re.DOTALL)
    assert code is not None
    placed = code[1].replace("path/to/nano-math_code", str(folder))
    assert str(folder) in placed
    (tmp_path / "quick_start.py").write_text(placed)
    runpy.run_path(str(tmp_path / "quick_start.py"))  # tests/cli/test_app.py runs four in a process of their own
    assert capsys.readouterr().out.startswith(f"Result: {recipe.evaluation.prompts[0]}")


def test_logits_of_the_export_equal_transformers_and_the_trained_model(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path
) -> None:
    folder = tmp_path / "model"
    result = exported(model, folder, recipe, tokenizer_model)
    tokens = torch.randint(recipe.model.vocab_size, (3, 64), generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        theirs = AutoModelForCausalLM.from_pretrained(folder)(tokens).logits
        torch.testing.assert_close(model(tokens), theirs, rtol=0, atol=1e-5)
        torch.testing.assert_close(open_model(folder).load()(tokens), theirs, rtol=0, atol=1e-5)
    assert result.largest_difference <= 1e-5
    assert f"{result.largest_difference:.2g}" in (folder / "README.md").read_text()


def test_an_export_is_complete(tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path) -> None:
    folder = tmp_path / "model"
    exported(model, folder, recipe, tokenizer_model, torch.bfloat16)
    assert {path.name for path in folder.iterdir()} == {
        ".tinyllama.json",
        "README.md",
        "config.json",
        "generation_config.json",
        "model.safetensors",
        "recipe.yaml",
        "special_tokens_map.json",
        "tokenizer.json",
        "tokenizer.model",
        "tokenizer_config.json",
    }
    tokenizer = SentencePieceTokenizer(tokenizer_model)
    config = json.loads((folder / "config.json").read_text())
    assert config["torch_dtype"] == "bfloat16"
    assert (config["bos_token_id"], config["eos_token_id"]) == (tokenizer.bos_id, tokenizer.eos_id)
    generation = GenerationConfig.from_pretrained(folder)
    assert (generation.bos_token_id, generation.eos_token_id) == (tokenizer.bos_id, tokenizer.eos_id)
    assert load_recipe(str(folder / "recipe.yaml")) == recipe
    assert AutoTokenizer.from_pretrained(folder)("the cat")["input_ids"] == [
        tokenizer.bos_id,
        *tokenizer.encode(["the cat"])[0],
    ]


def test_a_failed_check_leaves_nothing(tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path) -> None:
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(ExportError, match="not written"):
        exported(model, tmp_path / "model", recipe, tokenizer_model)
    assert list(tmp_path.iterdir()) == []


def test_a_failed_check_keeps_the_earlier_export(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path
) -> None:
    folder = tmp_path / "model"
    exported(model, folder, recipe, tokenizer_model)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with torch.no_grad():
        model.norm.weight[0] = torch.nan
    with pytest.raises(ExportError):
        exported(model, folder, recipe, tokenizer_model)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert list(tmp_path.iterdir()) == [folder]


def test_a_later_export_replaces_an_earlier_one(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path
) -> None:
    folder = tmp_path / "model"
    exported(model, folder, recipe, tokenizer_model)
    with torch.no_grad():
        model.norm.weight.mul_(2)
    exported(model, folder, recipe, tokenizer_model)
    assert torch.equal(open_model(folder).load().norm.weight, model.norm.weight)
    assert list(tmp_path.iterdir()) == [folder]


def test_a_folder_with_other_files_is_never_replaced(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ExportError, match="not an earlier export"):
        exported(model, tmp_path, recipe, tokenizer_model)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"


def test_a_tokenizer_of_another_vocabulary_is_refused(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path
) -> None:
    smaller = recipe.model_copy(update={"model": recipe.model.model_copy(update={"vocab_size": 200})})
    with pytest.raises(ExportError, match=r"300 tokens, more than the 200"):
        exported(model, tmp_path / "model", smaller, tokenizer_model)


def test_a_folder_that_cannot_be_written_is_named(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ExportError, match=r"file/model: the export cannot be written"):
        exported(model, tmp_path / "file" / "model", recipe, tokenizer_model)


def test_a_full_disk_leaves_no_half_folder_and_the_earlier_export(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path
) -> None:
    folder = tmp_path / "model"
    exported(model, folder, recipe, tokenizer_model)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    for limit in (100, 10_000, 200_000):  # in the configuration, in the weights' header, in the weights
        with largest_file(limit), pytest.raises(ExportError, match=r"model: the export cannot be written"):
            exported(model, folder, recipe, tokenizer_model)
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
        assert list(tmp_path.iterdir()) == [folder]


def export_until_checked(checking: Connection, folder: Path, recipe: Recipe, tokenizer_model: Path) -> None:
    """Begin an export in a process of its own; its check says that it begins, and never ends."""
    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job inherits that it is ignored

    def check_parity(*_: object) -> None:
        checking.send("checking")
        time.sleep(300)

    vars(writing)["check_parity"] = check_parity
    model = Llama(recipe.model)
    model.initialize(0)
    exported(model, folder, recipe, tokenizer_model)


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_an_interrupted_export_leaves_no_half_folder(
    tmp_path: Path, model: Llama, recipe: Recipe, tokenizer_model: Path, how: signal.Signals
) -> None:
    folder = tmp_path / "model"
    told, checking = CONTEXT.Pipe(duplex=False)
    process = CONTEXT.Process(
        target=silently, args=(export_until_checked, checking, folder, recipe, tokenizer_model), daemon=True
    )
    process.start()
    assert told.poll(60)
    assert list(tmp_path.glob("*/model.safetensors"))
    os.kill(process.pid or 0, how)
    process.join()
    assert process.exitcode != 0
    assert not folder.exists()
    exported(model, folder, recipe, tokenizer_model)
    assert list(tmp_path.iterdir()) == [folder]
