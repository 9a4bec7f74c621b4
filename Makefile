# Two commands set everything up: `make run` and `make test`.
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export PIP_CONSTRAINT := $(CURDIR)/constraints.txt
export PIP_DISABLE_PIP_VERSION_CHECK := 1

# Tests of files and numbers that train nothing: what `make quick` runs.
QUICK := tests/scenario tests/trace tests/results tests/docs/test_public_names.py
# What can be tested without torch: make pythons.
WITHOUT_TORCH := $(QUICK) tests/reports tests/studies tests/operations tests/cli/test_without_torch.py

.PHONY: run test suite quick coverage lint docs newest oldest lock locked pythons bench fuzz soak \
	clean

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

# requirements.lock and torch.lock, of what is installed in $(VENV); uv finds the hashes.
lock: $(VENV)/.test
	rm -rf .venv-lock
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/pip install --quiet uv
	$(BIN)/python tests/lock.py .venv-lock/bin/uv
	rm -rf .venv-lock

# An environment of the locked files alone (PYTHON=python3.11): a run in it has the digest of one in
# $(VENV). All tests in it: make test VENV=.venv-locked
DIGEST := python -c "import json, sys; print(json.load(open(sys.argv[1]))['digest'])"
LOCKED := --quiet --no-deps --require-hashes
ITSELF := --quiet --no-deps --no-build-isolation --editable .
locked: export PIP_CONSTRAINT := /dev/null
locked: $(VENV)/.test
	rm -rf .venv-locked
	$(PYTHON) -m venv .venv-locked
	.venv-locked/bin/pip install $(LOCKED) -r torch.lock -r requirements.lock
	.venv-locked/bin/pip install $(ITSELF)
	.venv-locked/bin/pip check
	touch .venv-locked/.run .venv-locked/.test
	$(BIN)/hybridsim run tngd-digits --out runs/unlocked --force
	.venv-locked/bin/hybridsim run tngd-digits --out runs/locked --force
	test "$$($(BIN)/$(DIGEST) runs/locked/manifest.json)" = "$$($(BIN)/$(DIGEST) runs/unlocked/manifest.json)"

# Other Pythons, without torch: what needs none writes the same pages from the same runs, to the
# byte, and passes its tests. Tests that need torch are skipped.
pythons: python-3.12 python-3.13

runs/pythons/reference: $(VENV)/.test
	rm -rf runs/pythons
	$(BIN)/hybridsim run tngd-digits --out runs/pythons/tngd
	$(BIN)/hybridsim run kfac-digits-digital --out runs/pythons/kfac
	$(BIN)/python tests/without_torch.py $@ runs/pythons/tngd runs/pythons/kfac

python-%: ENV = .venv-python-$*
python-%: export PIP_CONSTRAINT := /dev/null
python-%: runs/pythons/reference
	rm -rf $(ENV) runs/pythons/$*
	python$* -m venv $(ENV)
	$(ENV)/bin/pip install $(LOCKED) -r requirements.lock
	$(ENV)/bin/pip install $(ITSELF)
	$(ENV)/bin/python tests/without_torch.py runs/pythons/$* runs/pythons/tngd runs/pythons/kfac
	diff -r runs/pythons/reference runs/pythons/$*
	$(ENV)/bin/pytest -n 2 $(WITHOUT_TORCH)

docs: $(VENV)/.test
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --quiet --strict --config-file analysis/docs/mkdocs.yml

bench: $(VENV)/.test
	$(BIN)/pytest tests/benchmarks --override-ini norecursedirs= -s

fuzz: $(VENV)/.test
	HYBRIDSIM_FUZZ=2200 $(BIN)/pytest tests/fuzz -s

soak: $(VENV)/.test
	$(BIN)/pytest tests/soak --override-ini norecursedirs= -n 2

clean:
	rm -rf $(VENV) .venv-* runs build dist *.egg-info
