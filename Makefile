# Everything here works on a fresh machine that has Python >= 3.11 and make: each target sets up $(VENV) first.
#   make demo    the main job, offline: a dozen orders become a measured small model
#   make test    every check: ruff, mypy, direction of imports, pytest
#   make lint    the checks without the tests
#   make coverage  the tests, and which lines of the package they reach (half as long again)
#   make bench   every measurement of bench/, written to docs/benchmarks.md
#   make docs    runs every snippet of README.md and docs/
#   make ray     the tests of the Ray engine on a cluster of two nodes, in a virtual environment of their own (300 MB)

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := train,hub,plot,curate,search,dev

# Two processes of one thread each: more threads on small tensors only wait for each other.
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test tests lint keys coverage bench docs ray

help:
	@sed -n '2,8s/^# *//p' Makefile

$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "stillhouse needs Python >= 3.11; name one with make PYTHON=/path/to/python" >&2; exit 1; }
	@test -x $(BIN)/python || { echo "setting up $(VENV)" >&2; $(PYTHON) -m venv $(VENV); }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[$(EXTRAS)]'
	@touch $@

setup: $(STAMP)

demo: $(STAMP)
	@$(BIN)/python examples/orders/demo.py

lint: $(STAMP)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet src tests examples bench
	$(BIN)/mypy
	$(BIN)/lint-imports

# The keys of results must be the same under another Python, where one is installed.
OTHER := $(shell for p in python3.13 $$HOME/.pyenv/versions/3.13*/bin/python; do \
	$$p -c 'import sys; sys.exit(sys.version_info[:2] != (3, 13))' 2>/dev/null && echo $$p && break; done)

keys: $(STAMP)
ifneq ($(OTHER),)
	@test -x $(VENV)/other/bin/python || $(OTHER) -m venv $(VENV)/other
	$(VENV)/other/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	$(VENV)/other/bin/python -m tests.golden.update --print | diff tests/golden/keys.json - && echo "keys are the same under Python 3.13"
else
	@echo "Python 3.13 is not installed: keys were compared on this Python alone" >&2
endif

# All at once: what waits in one of them leaves the processor to the others.
test: $(STAMP)
	@$(MAKE) --no-print-directory -j 3 tests lint keys

tests: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --durations=25

coverage: $(STAMP)
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term:skip-covered

bench: $(STAMP)
	$(BIN)/python bench/all.py

ray: $(STAMP)
	@test -x $(VENV)/ray/bin/python || $(PYTHON) -m venv $(VENV)/ray
	$(VENV)/ray/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[ray,dev]'
	$(VENV)/ray/bin/pytest tests/engines -p no:cacheprovider

docs: $(STAMP)
	$(BIN)/pytest tests/contracts/test_snippets.py
