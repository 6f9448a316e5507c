"""Numbers in recipes: one grammar and bounds for every key, and a recipe that we write is the recipe that we read."""

from pathlib import Path

import pytest

from tests.field.conftest import Run, edit

pytestmark = pytest.mark.field

REFUSED = [
    # what is written, its replacement, the key in the message, and a part of the message
    ("size: 2K", 'size: "1,5M"', "corpora.prose.size", "a comma"),
    ("size: 2K", "size: 010", "corpora.prose.size", "starts with a zero"),
    ("vocab_size: 300}", "vocab_size: 0x12C}", "model.vocab_size", "is not a count"),
    ("until: 256", "until: 4:16", "stages.0.until", "is not a count"),
    ("peak: 0.01", "peak: .inf", "optimizer.learning_rate.peak", "is not a number"),
    ("peak: 0.01", "peak: .nan", "optimizer.learning_rate.peak", "is not a number"),
    ("peak: 0.01", "peak: yes", "optimizer.learning_rate.peak", "is not a number"),
    ("minimum: 0.001", "minimum: 0o1", "optimizer.learning_rate.minimum", "is not a number"),
    ("name: field\n", "name: field\nseed: yes\n", "seed", "is not a whole number"),
    ("name: field\n", "name: field\nseed: 010\n", "seed", "starts with a zero"),
    ("name: field\n", "name: field\nseed: 99999999999999999999\n", "seed", "from -9223372036854775808"),
    ("optimizer:\n", "optimizer:\n  betas: [0.9, 1.5]\n", "optimizer.betas.1", "below 1"),
    ("optimizer:\n", "optimizer:\n  betas: [-0.1, 0.9]\n", "optimizer.betas.0", "at least 0"),
    ("optimizer:\n", "optimizer:\n  clip: .inf\n", "optimizer.clip", "is not a number"),
    ("optimizer:\n", "optimizer:\n  eps: 1e-50\n", "optimizer.eps", "range of fp32"),
    ("optimizer:\n", "optimizer:\n  weight_decay: 1e50\n", "optimizer.weight_decay", "range of fp32"),
    ("warmup: 128", "warmup: -128", "optimizer.learning_rate.warmup", "from 0 to"),
    ("horizon: 512", "horizon: 1e30", "optimizer.learning_rate.horizon", "from 0 to"),
    ("fork: true}", "fork: true, ramp: -5}", "stages.1.ramp", "from 0 to"),
    ("until: 512", "until: 1e18", "stages.1.until", "steps"),
    ("batch: 4 sequences, fork", "batch: 3e9 sequences, fork", "stages.1.batch", "2147483647"),
    ("layers: 1", "layers: 1e17", "model.layers", "at most 16777216"),
    ("threads: 1", "threads: 1000000", "hardware.threads", "at most 4096"),
    ("micro_batch: 4", "micro_batch: yes", "hardware.micro_batch", "auto"),
    ("compile: false", "compile: false, collective_timeout: 1T", "hardware.collective_timeout", "at most"),
    ("every: 512, rows: 1", "every: 512, rows: 1e30", "evaluation.rows", "from 0 to"),
    ("share: 20%", "share: 0.2", "corpora.prose.held_out.share", "percentage"),
]


@pytest.mark.parametrize("case", REFUSED, ids=lambda case: case[1].strip()[:40])
def test_a_number_that_means_something_else_or_fails_later_is_refused(
    case: tuple[str, str, str, str], field: Path, tinyllama: Run
) -> None:
    old, new, key, message = case
    line = edit(field, old, new)
    told = tinyllama("plan", "field.yaml").refused()
    (fault,) = told.splitlines()
    assert f"field.yaml:{line}: {key}: " in fault
    assert message in fault


@pytest.mark.parametrize("number", ["1e9", "1.0e+9", "1_000_000_000", '"1,000,000,000"', "1B", ".001T", "+1e9"])
def test_a_count_means_the_same_however_it_is_written(number: str, field: Path, tinyllama: Run) -> None:
    edit(field, "size: 2K", f"size: {number}")
    assert '"size": 1000000000,' in tinyllama("plan", "field.yaml", "--json").succeeded()


def test_an_override_follows_the_rules_of_the_file(field: Path, tinyllama: Run) -> None:
    assert field.exists()
    assert "starts with a zero" in tinyllama("plan", "field.yaml", "--set", "seed=010").refused()
    assert "is not a number" in tinyllama("plan", "field.yaml", "--set", "optimizer.clip=.nan").refused()
    assert tinyllama("plan", "field.yaml", "--set", "corpora.prose.size=1e9").succeeded()


@pytest.mark.parametrize("seed", ["99999999999999999999", "-99999999999999999999", "010", "1_0_", "٣"])
def test_a_seed_that_no_generator_takes_is_refused(seed: str, field: Path, tinyllama: Run) -> None:
    told = tinyllama("generate", field / "nothing", "The river", f"--seed={seed}").refused()
    assert "--seed" in told


@pytest.mark.parametrize(
    "option", ["--temperature=nan", "--temperature=inf", "--repetition-penalty=inf", "--top-p=nan"]
)
def test_an_option_is_a_finite_number(option: str, field: Path, tinyllama: Run) -> None:
    assert option.partition("=")[0] in tinyllama("generate", field / "nothing", "The river", option).refused()


SHARES = ["33.333333333333%, b: 33.333333333333%, c: 33.333333333334%", "12.34567890123%, b: 87.65432109877%"]


@pytest.mark.parametrize("shares", SHARES)
def test_the_recipe_in_a_run_is_the_recipe_of_the_run(shares: str, field: Path, tinyllama: Run) -> None:
    corpus = '{sources: [{files: "text/*.txt"}], size: 2K, held_out: {share: 20%}, license: x}'
    edit(field, "corpora:\n", f"corpora:\n  b: {corpus}\n  c: {corpus}\n")
    edit(field, "plain: {prose: 100%}", f"plain: {{prose: {shares}}}")
    edit(field, "peak: 0.01", "peak: 0.012345678901234567")
    tinyllama("train", "field.yaml", "--variant", "base").succeeded()
    written = tinyllama("plan", "runs/field/recipe.yaml", "--json").succeeded()
    assert written == tinyllama("plan", "field.yaml", "--json").succeeded()
    tinyllama("generate", "runs/field/base", "The river", "--max-new-tokens", "2").succeeded()
