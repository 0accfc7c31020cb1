# Two commands for a newcomer: make demo, make test. The others are for people who change the code.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
DEMO ?= demo-output
BENCH ?= bench-output

.PHONY: demo test lint bench chaos clean

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
	$(BIN)/python -m pytest -m 'not slow'

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

# The long form of the fault tests: ten seeded moments for each process that is killed.
chaos: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m slow tests/faults

# Paired timings; R peers take part where Rscript and limma are installed.
bench: $(VENV)/.installed-dev
	$(BIN)/python benchmarks/run.py $(BENCH)
	$(BIN)/python benchmarks/normalise.py $(BENCH)

clean:
	rm -rf $(DEMO) $(BENCH) build dist .pytest_cache .ruff_cache .mypy_cache
