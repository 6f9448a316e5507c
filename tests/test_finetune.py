"""docs/finetune.md, as it stands there, on a model of random weights: `make test-finetune`."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tinyllama.export import export_model
from tinyllama.formats.gguf.file import GgufFile
from tinyllama.model import Llama
from tinyllama.recipe import load_recipe
from tinyllama.tokenizer.sentencepiece_file import SentencePieceTokenizer

pytestmark = pytest.mark.slow
pytest.importorskip("trl", reason="make test-finetune installs it")

PAGE = (Path(__file__).parent.parent / "docs/finetune.md").read_text(encoding="utf-8")
SCRIPT = re.search(r"```python\n(.*?)```", PAGE, re.DOTALL)
INSTALL, TUNE, USE, SERVE = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
PROMPT = [{"role": "user", "content": "What is 2 plus 3?"}]


def shell(commands: str, folder: Path) -> str:
    done = subprocess.run(
        ["bash", "-ec", f'python() {{ "{sys.executable}" "$@"; }}; tinyllama() {{ python -m tinyllama "$@"; }}\n{commands}'],  # noqa: E501, S607
        cwd=folder, env=os.environ | {"HF_HUB_OFFLINE": "1"}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.fixture
def place(prepared: Path, tmp_path: Path) -> Path:
    """A folder with what the page takes from `make demo`."""
    family = tmp_path / "runs/mini"
    shutil.copytree(prepared / "tokenizer", family / "tokenizer")
    shutil.copytree(prepared / "corpora/prose", family / "corpora/english")
    recipe = load_recipe("nano", ["model.context=256"])
    model = Llama(recipe.model)
    model.initialize(0)
    export_model(
        model.state_dict(), folder=family / "exports/v1.1", recipe=recipe, name="v1.1", card="# A model\n",
        tokenizer=SentencePieceTokenizer(family / "tokenizer/tokenizer.model"), dtype=torch.float32,
    )  # fmt: skip
    return tmp_path


def test_the_page_tunes_a_model_and_brings_it_back(place: Path) -> None:
    from transformers import AutoModelForCausalLM, AutoTokenizer

    assert SCRIPT is not None
    (place / "finetune.py").write_text(SCRIPT[1], encoding="utf-8")
    losses = [float(loss) for loss in re.findall(r"'loss': '?([\d.]+)", shell(TUNE, place))]
    assert losses[-1] < losses[0] - 1
    said = shell(USE, place)

    tuned = place / "runs/mini-chat"
    tokenizer = AutoTokenizer.from_pretrained(tuned)
    ids = tokenizer.apply_chat_template(PROMPT, add_generation_prompt=True, return_tensors="pt")["input_ids"]
    answer = AutoModelForCausalLM.from_pretrained(tuned).generate(ids, do_sample=False, max_new_tokens=200)
    assert said.startswith(tokenizer.decode(answer[0], skip_special_tokens=True) + "\n")

    (file,) = (place / "runs/mini-chat-Q8_0-gguf").glob("*.gguf")
    assert GgufFile(file).require("tokenizer.chat_template", str) == tokenizer.chat_template
    assert INSTALL == "pip install -c constraints.txt -e '.[finetune]'\n"
    assert SERVE == "tinyllama serve runs/mini-chat-Q8_0-gguf\n"
