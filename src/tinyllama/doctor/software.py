"""This installation, its extras, and the programs and services that some commands use."""

from __future__ import annotations

import platform
import shutil
from importlib.util import find_spec
from typing import TYPE_CHECKING

from tinyllama.doctor.findings import Examined
from tinyllama.installation import DISTRIBUTION, has_namesake, install_hint, installed_versions, unmet_requirements

if TYPE_CHECKING:
    from collections.abc import Iterator

EXTRAS = {
    "eval": ("lm_eval", "scores on tasks"),
    "report": ("plotly", "the report's charts, which reproduce and report need"),
    "fast": ("fastokens", "faster tokenizing of text"),
    "quality": ("rensa", "filters, deduplicate and pii of corpora"),
    "gguf": ("gguf", "GGUF files"),
    "serve": ("llama_cpp", "serve, and quantized exports"),
    "fp8": ("torchao", "precision: fp8"),
    "s3": ("s3fs", "text and checkpoints at s3:// URLs"),
    "studio": ("starlette", "the page that follows runs"),
    "mlflow": ("mlflow", "metrics for MLflow"),
    "trackio": ("trackio", "metrics for Trackio"),
    "wandb": ("wandb", "metrics for Weights & Biases"),
    "cluster": ("datatrove", "prepare --executor slurm"),
    "ray": ("ray", "prepare --executor ray"),
    "finetune": ("trl", "docs/finetune.md"),
}
"""Extra → the module that shows whether it is installed, and what it is for."""
CLIENTS = {
    "npm": ("Llama 2's tokenizer", "the hub or pip gives it"),
    "apt-get": ("the demo's mathematics and Chinese", "pip gives other text in their place"),
    "dpkg-deb": ("the demo's mathematics and Chinese", "pip gives other text in their place"),
}
"""Program → what it fetches or opens for recipes with builtin sources, and what happens without it."""
_ANY_MODEL = "TinyLlama/TinyLlama_v1.1"
"""A public repository of the hub."""


def examine_installation() -> Iterator[Examined]:
    """The versions of this copy, Python and torch, and whether all that we need is there."""
    versions = installed_versions(("tinyllama", "torch", "transformers"))
    text = ", ".join(f"{name} {version}" for name, version in versions.items())
    unmet = unmet_requirements()
    for problem, remedy in unmet.items():
        yield Examined("installation", "broken", problem, remedy)
    if not unmet:
        yield Examined("installation", "ok", f"{text}, Python {platform.python_version()}")
    if has_namesake():
        yield Examined(
            "namesake", "limited", f"another package, named tinyllama, has the same modules as {DISTRIBUTION}",
            f"uninstall both with pip, and install {DISTRIBUTION} again",
        )  # fmt: skip


def examine_extras() -> Iterator[Examined]:
    """Which extras are installed."""
    for extra, (module, purpose) in EXTRAS.items():
        if find_spec(module) is None:
            yield Examined(f"extra {extra}", "limited", f"missing; needed for {purpose}", install_hint(extra))
        else:
            yield Examined(f"extra {extra}", "ok", purpose)


def examine_programs() -> Iterator[Examined]:
    """The clients of package registries, and the sandbox for programs that models write."""
    from tinyllama.evaluation.sandbox import unavailable

    clients = {"pip": ("the demo's English", "put the text there by hand, see docs/data.md")} | CLIENTS
    for name, (purpose, otherwise) in clients.items():
        if shutil.which(name) or (name == "pip" and find_spec("pip")):
            yield Examined(name, "ok", purpose)
        else:
            yield Examined(name, "limited", f"missing; needed for {purpose}", f"install it; otherwise, {otherwise}")
    if reason := unavailable():
        result, _, remedy = reason.partition("; ")
        yield Examined("sandbox", "limited", result, remedy)
    else:
        yield Examined("sandbox", "ok", "humaneval")


def examine_hub() -> Iterator[Examined]:
    """Whether the Hugging Face hub answers."""
    from tinyllama.hub import probe

    answer = probe(_ANY_MODEL)
    if answer.revision is not None:
        yield Examined("hub", "ok", "answers")
    else:
        yield Examined(
            "hub", "limited", f"no answer: {answer.reason}",
            "check network and proxy (HTTPS_PROXY, HF_ENDPOINT, HF_HUB_OFFLINE); without the hub, give tasks' data by "
            "--data and models as folders",
        )  # fmt: skip
