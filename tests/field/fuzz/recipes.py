"""Recipes with something odd in them."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from tests.field.conftest import RECIPE
from tests.field.fuzz.case import Case
from tests.field.fuzz.values import TEXTS, Tree, anything, damaged, mutated

if TYPE_CHECKING:
    from random import Random

_COMMANDS = (
    *["plan {}"] * 5, "plan {} --json", "plan {} --hardware a100-40g", "rehearse {}", "rehearse {} --json",
    "prepare {}", "prepare {}", "train {}", "tokenizer train {} --out out", "launch {} --dry-run", "evaluate {}",
    "export {}", "report {}", "contaminated {}", "import hf --recipe {} --run new", "reproduce {}",
)  # fmt: skip
_WORKING = ("rehearse", "train", "reproduce")
_LINES = (
    "x: &a [*a]", "x: &a {<<: *a}", "!!python/object:os.system {}", "? [a, b]\n: 1", "\t- x", "--- {}", "%YAML 9.9",
    "base: {prose: 100%}", "seed: 1\nseed: 2", "name: no", "model:", "variants: {on: {prose: 100%}}", "<<: {seed: 1}",
    "a: &a [x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]", "seed: 0o17", "seed: 1:30:00", "# \u2028", "} ]", "*x",
)  # fmt: skip
_SECTIONS: dict[str, Tree] = {
    "start": {"model": "hf", "tokens": 0},
    "spikes": {"policy": "skip", "sigmas": 6, "window": 8},
    "average": {"half_life": 512},
    "document_masking": True,
    "precision": "fp32",
    "model": {
        "layers": 2, "width": 16, "ffn": 24, "heads": 2, "kv_heads": 1, "context": 16, "vocab_size": 300,
        "rope_theta": 1e4, "head_dim": 12, "rope_scaling": {"kind": "llama3", "factor": 2, "original_context": 8},
        "norm_eps": 1e-5, "tied_embeddings": True,
    },
    "tokenizer": {"train": {"vocab_size": 300, "corpora": ["prose"]}, "bos": True, "eos": True},
    "optimizer": {
        "kind": "muon", "betas": [0.9, 0.95], "eps": 1e-8, "weight_decay": 0.1, "clip": 1,
        "weight_decay_of": "matrices", "learning_rate_factors": {"embeddings": 2, "matrices": 0.5}, "z_loss": 1e-4,
        "learning_rate": {"peak": 0.01, "minimum": 0.001, "warmup": 128, "horizon": 512},
    },
    "evaluation": {
        "every": 256, "rows": 1, "tasks": ["arc_easy"], "tasks_every": 256, "data": "data/eval",
        "prompts": ["The river"],
    },
    "hardware": {
        "micro_batch": "auto", "threads": 1, "compile": False, "shard": "none", "activation_checkpointing": True,
        "local_copies": "copies", "collective_timeout": 60,
    },
    "checkpoints": {"every": 256, "keep": 1, "permanent": 256, "url": "memory://stored"},
    "corpora": {
        "prose": {
            "sources": [{"files": "records/a.jsonl", "text_field": "text", "where": "meta.number < 20",
            "limit": 100000}],
            "size": "2K", "cut": 500, "max_damaged": "10%", "held_out": {"share": "20%", "by": "block", "block": 4},
            "license": "Apache-2.0",
        }
    },
}  # fmt: skip


def small(random: Random) -> dict[str, Tree]:
    """The small recipe, with some sections that state more keys."""
    tree: dict[str, Tree] = yaml.safe_load(RECIPE)
    for name in random.sample(list(_SECTIONS), random.choice((0, 1, 1, 2, 3))):
        tree[name] = _SECTIONS[name]
    return tree


def shipped(random: Random) -> str:
    """The text of a shipped recipe."""
    spec = importlib.util.find_spec("tinyllama")
    assert spec
    assert spec.origin
    name = random.choice(("nano", "nano", "nano", "mini", "mini", "continue", "tinyllama-v1.1"))
    return (Path(spec.origin).parent / f"recipes/{name}.yaml").read_text(encoding="utf-8")


def recipe_case(random: Random) -> Case:
    """A command on a recipe that was changed as a tree, as a text, as bytes or by `--set`."""
    command = random.choice(_COMMANDS)
    argv = command.format("odd.yaml").split()
    if random.random() < 0.2:
        tree, argv = yaml.safe_load(shipped(random)), ["plan", "odd.yaml"]
    else:
        tree = small(random)
    shape = random.random()
    note = ""
    data = dump(tree)
    if shape < 0.7:
        for _ in range(random.choice((1, 1, 1, 2, 5))):
            tree = mutated(random, tree)
        data = dump(tree)
    elif shape < 0.8:
        data = "\n".join(_mutated_lines(random, data.decode().split("\n"))).encode()
    elif shape < 0.85:
        data = damaged(random, data)
    else:
        settings = [_setting(random, tree) for _ in range(random.choice((1, 1, 2)))]
        argv += [word for setting in settings for word in ("--set", setting)]
        note = "a recipe with --set"
    if random.random() < 0.05:
        data = random.choice((b"\xef\xbb\xbf" + data, data.decode(errors="replace").encode("utf-16"), data * 2))
    working = argv[0] in _WORKING
    settings_given = argv[argv.index("--set") :] if "--set" in argv else []
    return Case(
        argv,
        needs="exported" if argv[0] in {"evaluate", "export", "report", "contaminated", "import"} else "texts",
        files={"odd.yaml": data},
        plan_first=["plan", "odd.yaml", *settings_given] if working else (),
        note=note,
    )


def dump(tree: Tree) -> bytes:
    """A tree as YAML, in blocks or in braces."""
    return yaml.safe_dump(tree, sort_keys=False, allow_unicode=True, width=100).encode(errors="surrogatepass")


def _mutated_lines(random: Random, lines: list[str]) -> list[str]:
    index = random.randrange(len(lines))
    line = lines[index]
    match random.randrange(8):
        case 0:
            lines[index : index + 1] = []
        case 1:
            lines[index:index] = [line]
        case 2:
            lines[index] = " " * random.choice((1, 2, 7)) + line
        case 3:
            lines[index] = line.lstrip()
        case 4:
            lines[index] = line.partition(":")[0] + ":"
        case 5:
            lines[index] = line.partition(":")[0] + ": " + random.choice(TEXTS)
        case _:
            lines[index:index] = random.choice(_LINES).split("\n")
    return lines


def _setting(random: Random, tree: Tree) -> str:
    path: list[str] = []
    while isinstance(tree, dict) and tree and (random.random() < 0.9 or not path):
        key = random.choice(list(tree))
        path.append(key)
        tree = tree[key]
    value = anything(random)
    spelled = (
        value if isinstance(value, str) else yaml.safe_dump(value, default_flow_style=True).removesuffix("\n...\n")
    )
    return random.choice((f"{'.'.join(path)}={spelled.strip()}", f"{'.'.join(path)}.0={spelled}", ".".join(path), "=1"))
