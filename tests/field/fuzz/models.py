"""Models, tokenizers and families whose files were changed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import yaml

from tests.field.conftest import RECIPE
from tests.field.fuzz.case import Case
from tests.field.fuzz.odd_files import odd
from tests.field.fuzz.recipes import dump
from tests.field.fuzz.sources import odd_text
from tests.field.fuzz.template import GGUF

if TYPE_CHECKING:
    from random import Random

    from tests.field.fuzz.template import Files

_GENERATE = "generate {} The --max-new-tokens 3"
_SINGLE = (
    _GENERATE,
    _GENERATE,
    "export {} --format gguf",
    "evaluate {} --tasks arc_easy --text odd.txt --limit 2 --data data/eval",
)
_START = {"model": "", "tokens": 0}
_CHECKPOINT = "runs/field/base/checkpoints/step-2"
_TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
    "special_tokens_map.json",
)
_FAMILY = (
    "train {}", "evaluate {}", "export {}", "export {} --format gguf", "report {}", "reproduce {}", "plan {}",
    "prepare {}",
    "contaminated {}", "corpus verify runs/field/corpora/prose", "corpus verify runs/field/corpora/prose --sample 1",
    "corpus inspect runs/field/corpora/prose --origin 0", "corpus export runs/field/corpora/prose --out out",
    "contaminated runs/field/corpora/prose", "generate runs/field/plain The --max-new-tokens 3", "launch {} --dry-run",
    "evaluate runs/field/plain --tasks arc_easy --text runs/field/corpora/prose --data data/eval",
    "import runs/field/base --recipe started.yaml",
)  # fmt: skip


def model_case(random: Random, files: Files) -> Case:
    """A command that opens a Hugging Face folder, a GGUF file or a checkpoint with one odd file."""
    folder = random.choice(("hf", "hf", GGUF, _CHECKPOINT, "runs/field/base"))
    names = [GGUF] if folder == GGUF else files.names("exported", folder)
    name = random.choice([name for name in names if not name.endswith(("README.md", ".lock", ".jsonl"))])
    command = random.choice(
        (*_SINGLE, "serve {}", "publish {} --repo a/b --dry-run", "import {} --recipe started.yaml")
    )
    changed = None if random.random() < 0.08 else odd(random, name, files.read("exported", name))
    return Case(
        command.format(folder).split(),
        needs="exported",
        files={name: changed, "odd.txt": odd_text(random), "started.yaml": _started(folder)},
        note=f"{name}: changed",
    )


def tokenizer_case(random: Random, files: Files) -> Case:
    """A command that reads an odd tokenizer, alone or in a model."""
    if random.random() < 0.5:
        name = random.choice(_TOKENIZER_FILES)
        given = {f"hf/{name}": odd(random, name, files.read("exported", f"hf/{name}"))}
        if random.random() < 0.4:
            given["hf/tokenizer.model" if name == "tokenizer.json" else "hf/tokenizer.json"] = None
        command = random.choice((*_SINGLE, "import hf --recipe started.yaml"))
        given |= {"odd.txt": odd_text(random), "started.yaml": _started("hf")}
        return Case(command.format("hf").split(), needs="exported", files=given)
    name = random.choice(("tok/tokenizer.json", "tok/tokenizer.model"))
    tree = yaml.safe_load(RECIPE)
    tree["tokenizer"] = {"file": name}
    given = {name: odd(random, name, files.read("prepared", name)), "odd.yaml": dump(tree)}
    if random.random() < 0.4:
        config = files.read("exported", "hf/tokenizer_config.json")
        given["tok/tokenizer_config.json"] = odd(random, "a.json", config) if random.random() < 0.5 else config
    command = random.choice(("prepare odd.yaml", "prepare odd.yaml", "prepare odd.yaml --exact-all", "train odd.yaml"))
    return Case(command.split(), needs="prepared", files=given)


def family_case(random: Random, files: Files) -> Case:
    """A command on a family, one of whose files was changed, removed or replaced by a link."""
    argv = random.choice(_FAMILY).format("field.yaml").split()
    part = random.choice(("prepared", "trained", "exported", "exported"))
    name = random.choice(files.names(part, "runs/field"))
    case = Case(argv, needs=part, files={"started.yaml": _started("runs/field/base")})
    kind = random.random()
    if kind < 0.12:
        case.files[name] = None
    elif kind < 0.2:
        case.links[name] = random.choice(("nowhere", ".", "/dev/null", name.rpartition("/")[2]))
    elif kind < 0.3:
        case.files[name] = None
        case.files[f"{name}/keep.me"] = b"mine"
    elif kind < 0.4:
        folder = name.rpartition("/")[0]
        case.files[f"{folder}/{random.choice(('keep.me', 'tokenizer_notes.md', '.keep', 'model.keep'))}"] = b"mine"
    else:
        case.files[name] = odd(random, name, files.read(part, name))
    return case


def _started(model: str) -> bytes:
    tree = yaml.safe_load(RECIPE)
    tree["start"] = {**_START, "model": model}
    tree["name"] = "started"
    tree["tokenizer"] = {"imported": True}
    return dump(tree)
