"""Commands that bring models in and out, as a person runs them."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import pytest
from typer.testing import CliRunner

from tests.cli.test_app import SET
from tests.command import run
from tests.train.test_import_start import STAGES, foreign_folder, with_tokenizer
from tinyllama.cli.commands import app
from tinyllama.formats.gguf.file import GgufFile, is_gguf
from tinyllama.formats.open import open_model

if TYPE_CHECKING:
    from pathlib import Path

    from click.testing import Result


def here(*words: str | Path) -> Result:
    """Run a command in this process, which has imported transformers already."""
    return CliRunner().invoke(app, list(map(str, words)), catch_exceptions=False)


def test_a_model_goes_in_and_comes_out_as_gguf_and_in_again(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("gguf", reason="the extra gguf")
    monkeypatch.chdir(tmp_path)
    with_tokenizer(foreign_folder(tmp_path / "foreign"), prepared)
    (tmp_path / "foreign/chat_template.jinja").write_text("{{ messages }}")
    overrides = [*SET]
    for setting in ("start={model: foreign, tokens: 1M, rewarm: 2K}", *STAGES, "tokenizer={imported: true}"):
        overrides += ["--set", setting]
    done = here("import", "--recipe", "nano", "--run", "family", "--json", *overrides)
    assert done.exit_code == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["checkpoint"] == "family/base/checkpoints/step-0"
    assert (told["tokens"], told["largest_difference"] < 1e-5) == (1_000_000, True)

    again = here("import", "foreign", "--recipe", "nano", "--run", "family", *overrides)
    assert again.stdout.split() == ["family/base/checkpoints/step-0"], again.stderr
    assert "next: tinyllama reproduce nano --run family --set " in again.stderr
    assert again.stderr.rstrip().endswith("--set start.model=foreign")

    out = ["--format", "gguf", "--precision", "f32"]
    done = here("export", "nano", "--run", "family", *out, *overrides)
    assert done.exit_code == 0, done.stderr
    assert done.stdout.split() == ["family/exports/base-F32-gguf"]
    file = tmp_path / "family/exports/base-F32-gguf/nano-base-F32.gguf"
    assert is_gguf(file)
    assert GgufFile(file).require("tokenizer.chat_template", str) == "{{ messages }}"

    done = here("export", "foreign", *out)
    assert done.stdout.split() == ["foreign-F32-gguf"], done.stderr
    assert done.stderr.splitlines()[-1] == "next: tinyllama generate foreign-F32-gguf The"
    single = tmp_path / "foreign-F32-gguf/foreign-F32.gguf"

    texts = {
        here("generate", model, "the", "--max-new-tokens", "8", "--seed", "1").stdout
        for model in ("foreign", file, single, "family/base")
    }
    assert len(texts) == 1
    assert texts.pop().startswith("the")
    identity = open_model(file).identity()
    assert (identity.kind, identity.adds_bos, identity.stored_dtype) == ("gguf", True, "F32")
    tokenizers = [open_model(place).tokenizer() for place in (file, tmp_path / "family/base")]
    assert tokenizers[0].encode(["the cat"]) == tokenizers[1].encode(["the cat"])

    again = [word.replace("model: foreign", f"model: {file}") for word in overrides]
    done = here("import", "--recipe", "nano", "--run", "again", "--json", *again)
    assert done.exit_code == 0, done.stderr
    assert json.loads(done.stdout)["largest_difference"] < 1e-5


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["import", "nowhere", "--recipe", "nano"], "no `start` section"),
        (["import", "nowhere", "--recipe", "continue"], "no model is here"),
        (["export", "nano", "--precision", "Q3"], "Q3"),
        (["export", "nanno"], "nanno is not a recipe"),
        (["export", "nowhere", "--format", "gguf"], "no model is here"),
        (["export", "nowhere", "--format", "gguf", "--text", "a.txt"], "cannot use --text without a quantized type"),
        (["export", "nano", "--precision", "Q4_K_M", "--text", "a.txt"], "cannot use --text with a recipe"),
        (
            ["export", "nowhere", "--format", "gguf", "--set", "seed=3"],
            "cannot use --set with a single model",
        ),
    ],
)
def test_a_users_mistake_is_exit_code_2_and_one_clear_message(
    tmp_path: Path, arguments: list[str], message: str
) -> None:
    done = run(*arguments, cwd=tmp_path, HF_HUB_OFFLINE="1")
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr
