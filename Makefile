# Two commands for a newcomer: make demo, make test. The others are for people who change the code.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo-output
BENCH ?= bench-output
# Test files side by side: most of their time is waiting for processes. 0 runs them one after another.
TEST_PROCESSES ?= 2

.PHONY: demo test lint bench bench-frozen bench-batch chaos year clean

$(VENV)/.installed: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "sjd-dask needs Python 3.11 or newer; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable .
	touch $@

$(VENV)/.installed-dev: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --editable '.[dev,postgres]'
	touch $@

demo: $(VENV)/.installed
	$(BIN)/python -m sjd_dask.demo $(DEMO)

test: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m 'not slow' -n $(TEST_PROCESSES) --dist loadfile

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# The long form of the fault tests: ten seeded moments for each process that is killed.
chaos: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow tests/faults

# A year of nights, killed at a hundred moments, beside an undisturbed one.
year: $(VENV)/.installed-dev
	mkdir -p $(BENCH)
	$(BIN)/python benchmarks/year.py $(BENCH)

# Paired timings; R peers take part where Rscript and limma are installed.
bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run.py $(BENCH)
	$(BIN)/python benchmarks/normalise.py $(BENCH)
	$(BIN)/python benchmarks/stratify.py $(BENCH)
	$(BIN)/python benchmarks/stratify_scale.py $(BENCH)
	$(BIN)/python benchmarks/classify.py $(BENCH)
	$(BIN)/python benchmarks/night.py $(BENCH) --samples 50000
	$(BIN)/python benchmarks/clinical.py $(BENCH)

# Real data decide: how far frozen normalisation is from a refit, and what is left of batch effects. Both need the folder
# of public matrices that SJD_REFERENCE_DATA names, and say so without it.
bench-frozen: $(VENV)/.installed-dev
	mkdir -p $(BENCH)
	$(BIN)/python benchmarks/frozen_against_refit.py --output $(BENCH)/frozen_against_refit.md

bench-batch: $(VENV)/.installed-dev
	mkdir -p $(BENCH)
	$(BIN)/python benchmarks/real_batch_effects.py --output $(BENCH)/real_batch_effects.md --picture $(BENCH)/batch_effect.png

clean:
	rm -rf $(DEMO) $(BENCH) build dist .pytest_cache .ruff_cache .mypy_cache
