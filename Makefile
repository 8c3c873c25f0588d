# Set-up runs once: the stamp is as new as the files that say what to install.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
TOOLS  := .venv-tools
DEMO   := runs/demo

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-wide test-long test-tools check format benchmark tables clean

help:           ## list what can be made
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## /\t/' | expand -t 12

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "wilss needs Python 3.11 or newer; say which with: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "Setting up $(VENV) (once; downloads about 3 GB, mostly torch) ..."
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[dev]'
	@touch $@

setup: $(STAMP) ## make .venv with the tested versions

demo: $(STAMP)  ## the whole walk on the built-in data: base training, masks, new classes, report
	@WILSS_OUT=$(DEMO)/masks WILSS_RUNS=$(DEMO)/runs workflows/shapes/run.sh

# Bytecode is kept, whatever the environment says: each process of the tests would compile every source.
# One more than two cores: some tests wait, and every worker imports and collects all of them.
WORKERS ?= 3
# Files of the tests lie in memory where 1 GB is free, many times what they need: they are many and small.
MEMORY  := $(shell df -Pk /dev/shm 2>/dev/null | awk 'NR == 2 && $$4 > 1000000 {print "PYTEST_DEBUG_TEMPROOT=/dev/shm"}')
PYTEST  := PYTHONDONTWRITEBYTECODE= $(MEMORY) $(BIN)/python -m pytest -q -n $(WORKERS) --dist loadfile \
  --no-loadscope-reorder

test: $(STAMP)  ## the tests, some minutes on two cores
	@$(PYTEST)

test-wide: $(STAMP) ## further forms of what `make test` tries once, some minutes
	@$(PYTEST) -m wide

test-long: $(STAMP) ## all that `make test` leaves out: these, and drills of hours: kills, races, damage, fuzzing
	@$(BIN)/python -m pytest -q -m '(wide or long or hypothesis) and not tools' --hypothesis-profile long \
	  --timeout 14400

test-tools: $(STAMP) $(TOOLS)/.installed ## other tools' own libraries read what we write, and we what they write
	@WILSS_TOOLS_PYTHON=$(CURDIR)/$(TOOLS)/bin/python $(BIN)/python -m pytest -q -m tools tests/tools

$(TOOLS)/.installed: tests/tools/requirements.txt
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	@echo "Setting up $(TOOLS) (once; downloads about 1 GB) ..."
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $<
	@$(TOOLS)/bin/python -m pip install --quiet --disable-pip-version-check --no-deps labelme==6.3.1
	@touch $@

check: $(STAMP) ## lint, format, types, who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_imports.py

format: $(STAMP) ## let ruff format and fix
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

benchmark: $(STAMP) ## the speed table (workflows/benchmark/)
	@$(BIN)/python workflows/benchmark/run.py

tables: $(STAMP) ## the tables of all pages, from the figures beside them
	@$(BIN)/python workflows/tables.py

clean:          ## remove what the demo made
	rm -rf $(DEMO)
