# `make demo` and `make test` start from nothing but Python 3.11+ with its headers, a C++ compiler, make, apt and npm.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test check test-slow soak bench clean

# One recipe in, an evaluated family out: installs, fetches text, trains, evaluates, exports, reports.
demo: $(VENV)/.demo
	$(BIN)/tinyllama reproduce mini

test: $(VENV)/.test
	$(BIN)/pytest -m "not slow"

# Minutes of killing and resuming whole families.
test-slow: $(VENV)/.test
	$(BIN)/pytest -m slow

# Kills families at points that a seed chooses and compares what they end in; a quarter of an hour.
SEED ?= 1
soak: $(VENV)/.test
	$(BIN)/python -m tests.engine.soak --kills 50 --seed $(SEED) > docs/results/soak.md

# Twenty minutes on an otherwise idle machine; writes docs/benchmarks.md.
bench: $(VENV)/.bench
	$(BIN)/python -m pip install --quiet --no-deps --requirement benchmarks/litgpt.txt
	$(BIN)/python benchmarks/all.py

check: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/mypy benchmarks/*.py benchmarks/runner benchmarks/workers/*.py

# One virtual environment; each stamp stands for the extras installed in it.
$(VENV)/.demo: EXTRAS := eval,fast,report
$(VENV)/.test: EXTRAS := test
$(VENV)/.dev: EXTRAS := dev
$(VENV)/.bench: EXTRAS := bench
$(VENV)/.demo $(VENV)/.test $(VENV)/.dev $(VENV)/.bench: pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable '.[$(EXTRAS)]'
	touch $@

clean:
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
