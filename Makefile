# Two commands set everything up: `make run` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Tests of files and numbers that train nothing: what `make quick` runs.
QUICK := tests/scenario tests/trace tests/results tests/docs/test_public_names.py

.PHONY: run test suite quick coverage lint docs newest oldest bench fuzz soak clean

$(VENV)/.run: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet torch
	$(BIN)/pip install --quiet --editable .
	touch $@

$(VENV)/.test: $(VENV)/.run
	$(BIN)/pip install --quiet --editable '.[test]'
	touch $@

run: $(VENV)/.run
	$(BIN)/hybridsim run kfac-digits --out runs/kfac-digits --force
	$(BIN)/hybridsim run kfac-digits-digital --out runs/kfac-digits-digital --force
	$(BIN)/hybridsim compare runs/kfac-digits runs/kfac-digits-digital --out runs/comparison.html
	$(BIN)/hybridsim study one-fast-spu --out runs/one-fast-spu --force --workers 2

# Side by side: the type checker leaves a core idle.
test: $(VENV)/.test
	$(MAKE) --no-print-directory --jobs 2 lint suite

suite: $(VENV)/.test
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

# Fresh environments without constraints.txt: the newest release of every dependency; the lower
# bounds of pyproject.toml, on the oldest Python that it states (PYTHON=python3.11).
newest oldest: ENV = .venv-$@
newest: export PIP_CONSTRAINT := /dev/null
oldest: export PIP_CONSTRAINT := $(CURDIR)/.venv-oldest/bounds.txt
newest oldest:
	rm -rf $(ENV)
	$(PYTHON) -m venv $(ENV)
	$(PYTHON) tests/lower_bounds.py > $(ENV)/bounds.txt
	$(ENV)/bin/pip install --quiet --editable '.[test]'
	$(ENV)/bin/pip list
	$(ENV)/bin/hybridsim run tngd-digits --out runs/$@ --force
	$(ENV)/bin/pytest -n 2 -m "not pinned" $(QUICK) tests/operations

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --config-file analysis/docs/mkdocs.yml

bench: $(VENV)/.test
	$(BIN)/pytest tests/benchmarks --override-ini norecursedirs= -s

fuzz: $(VENV)/.test
	HYBRIDSIM_FUZZ=1500 $(BIN)/pytest tests/fuzz -s

soak: $(VENV)/.test
	$(BIN)/pytest tests/soak --override-ini norecursedirs= -n 2

clean:
	rm -rf $(VENV) .venv-newest .venv-oldest runs build dist *.egg-info
