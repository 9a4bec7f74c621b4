# Two commands set everything up: `make run` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Tests of files and numbers that train nothing: what `make quick` runs.
QUICK := tests/scenario tests/trace tests/results tests/docs/test_public_names.py

.PHONY: run test quick coverage lint bench clean

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

run: $(VENV)/.run
	$(BIN)/hybridsim run tngd-digits --out runs/tngd-digits --force
	$(BIN)/hybridsim run adam-digits --out runs/adam-digits --force
	$(BIN)/hybridsim compare runs/tngd-digits runs/adam-digits --out runs/comparison.html

test: lint
	$(BIN)/pytest -n 2

quick: lint
	$(BIN)/pytest -n 2 $(QUICK)

coverage: $(VENV)/.test
	$(BIN)/pytest -n 2 --cov=hybridsim --cov-report=term:skip-covered --cov-fail-under=90

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.test
	$(BIN)/pytest tests/benchmarks --override-ini norecursedirs= -s

clean:
	rm -rf $(VENV) runs build dist *.egg-info
