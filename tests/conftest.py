"""A prepared nano family that tests copy, and tiny recipes over it."""

import atexit
import gc
import importlib
import os
import shutil
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import hypothesis
import pytest

from tinyllama.family import Family
from tinyllama.packages import cache_folder
from tinyllama.recipe import load_recipe

if "TEST_DEVICE" not in os.environ:  # set by `make test-gpu`
    os.environ["CUDA_VISIBLE_DEVICES"] = ""  # results on CPUs are equal bit for bit; PyTorch has not looked yet
os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # threads that spin while they wait take the cores of other tests

os.environ["HF_HUB_OFFLINE"] = "1"  # tests that ask a hub have a stand-in
os.environ["NO_PROXY"] = os.environ["no_proxy"] = "*"  # all servers are this machine's own
hypothesis.settings.register_profile("tests", deadline=None)  # an example may wait for other tests
hypothesis.settings.load_profile("tests")
_CACHE = tempfile.TemporaryDirectory(prefix="tinyllama-cache-")
"""A cache that shares packages with the user's, but not the data of tasks that the user has fetched."""
(cache_folder() / "archives").mkdir(parents=True, exist_ok=True)
(Path(_CACHE.name) / "archives").symlink_to((cache_folder() / "archives").absolute())
os.environ["TINYLLAMA_CACHE"] = _CACHE.name
atexit.register(_CACHE.cleanup)

SMALL = (
    "stages.0.until=6K",
    "stages.1.until=12K",
    "stages.1.ramp=2K",
    "stages.2.until=20K",
    "optimizer.learning_rate.warmup=2K",
    "optimizer.learning_rate.horizon=20K",
    "evaluation.every=6K",
    "evaluation.rows=2",
    "checkpoints.every=4K",
)
"""The nano recipe in about 14 steps: 6 base, 6 domain, 2 cooldown."""

MakeFamily = Callable[..., Family]


def pytest_collection_finish() -> None:
    """Spare what is imported from collections of garbage: every training begins with one, which takes half a second."""
    if "PYTEST_XDIST_WORKER" in os.environ:  # a worker trains sooner or later, and an optimizer imports it
        importlib.import_module("torch._dynamo")
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with nano's tokenizer and corpora."""
    folder = tmp_path_factory.mktemp("prepared")
    family = Family(load_recipe("nano"), folder)
    assert set(family.prepare().corpora) == set(family.recipe.corpora)
    return folder


@pytest.fixture(scope="session")
def trained(prepared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a small family of which base, v1.1 and math_code are trained without a stop; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "family"
    shutil.copytree(prepared, folder)
    Family(load_recipe("nano", SMALL), folder).train("base", "v1.1", "math_code")
    return folder


@pytest.fixture
def make_family(prepared: Path, tmp_path: Path) -> MakeFamily:
    """Make a small family in a folder of its own: make_family("name", "key=value", …)."""
    return partial(_copied, prepared, tmp_path)


@pytest.fixture
def make_trained(trained: Path, tmp_path: Path) -> MakeFamily:
    """As `make_family`, but base, v1.1 and math_code are trained already, without the overrides."""
    return partial(_copied, trained, tmp_path)


def _copied(source: Path, root: Path, name: str = "family", *overrides: str) -> Family:
    """A family whose folder is a copy, unless it is there already."""
    if not (root / name).exists():
        shutil.copytree(source, root / name)
    return Family(load_recipe("nano", [*SMALL, *overrides]), root / name)
