# Everything here works on a fresh machine that has Python >= 3.11 and make: each target sets up $(VENV) first.
#   make demo    the main job, offline: a dozen orders become a measured small model
#   make test    every check: ruff, mypy, direction of imports, pytest with coverage
#   make lint    the checks without the tests
#   make bench   every measurement of bench/, written to docs/benchmarks.md
#   make docs    runs every snippet of README.md and docs/

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
EXTRAS := train,hub,plot,dev

# Two processes of one thread each: more threads on small tensors only wait for each other.
WORKERS ?= 2
export OMP_NUM_THREADS ?= 1

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint bench docs

help:
	@sed -n '2,6s/^# *//p' Makefile

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
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint
	$(BIN)/pytest -n $(WORKERS) --dist worksteal --cov --cov-report=term:skip-covered

bench: $(STAMP)
	$(BIN)/python bench/all.py

docs: $(STAMP)
	$(BIN)/pytest tests/contracts/test_snippets.py
