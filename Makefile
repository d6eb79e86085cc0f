# Needs make and python3 (3.11 or newer); the rest is installed: into .venv, into the cache folder ~/.cache/cdc-stack, and, as root
# on Debian or Ubuntu, by apt. `make` checks everything; `make demo` shows everything.
SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
SOURCE ?= mariadb
TRANSPORT ?= direct
SECONDS ?= 30
SIZE ?= 1
MINUTES ?= 30
SCHEMAS ?= 2000
SEED ?= 1
WORKERS ?= $(shell nproc)
ARGS ?=
export PIP_DISABLE_PIP_VERSION_CHECK := 1
DEMO := --source $(SOURCE) --transport $(TRANSPORT) --seconds $(SECONDS) --size $(SIZE)
unexport SECONDS  # bash counts in a variable of that name

.PHONY: all install simulate extension servers lint types test quick demo bench bench-peers soak property fuzz fuzz-long mutants schemas constraints clean
all: lint types test

install: $(VENV)/.installed extension

# venv, pinned packages, the project itself in place. Without isolation the build uses the pinned tools, not today's newest.
$(VENV)/.installed: pyproject.toml constraints.txt
	bash tools/prepare $(PYTHON) $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt setuptools wheel Cython
	CDC_PURE=1 $(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[dev]'
	touch $@

# The compiled codec. A missing compiler is no failure: the codec then runs uncompiled, setup.py says so, and the next make tries again.
extension: $(VENV)/.extension
$(VENV)/.extension: $(VENV)/.installed setup.py $(wildcard cdc/codec/*.py cdc/codec/*.pxd)
	$(BIN)/python setup.py -q build_ext --inplace --parallel $(WORKERS)
	if compgen -G 'cdc/codec/_*.so' > /dev/null; then touch $@; fi

servers: install
	$(BIN)/python -m cdc.stack

lint: $(VENV)/.installed
	$(BIN)/ruff check .

types: $(VENV)/.installed
	$(BIN)/mypy

test: install servers
	CDC_REQUIRE_SERVERS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not soak' $(ARGS)

quick: install
	$(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m 'not slow and not soak and not server' $(ARGS)

demo: install
	$(BIN)/cdc demo $(DEMO)

# All parts take about an hour; `ARGS='--only latency --tables narrow'` runs one.
bench: install
	$(BIN)/python -m bench $(ARGS)

# Ours beside pgloader and Debezium on Kafka Connect, which come from packages: one table, one run.
bench-peers: install
	$(BIN)/python -m bench --peers --tables narrow --only insert update latency load debezium $(ARGS)

# The long tests; then crashes and faults until the time is over, on from where tests/crash/ledger.jsonl ends. An hour or a night.
soak: install servers
	CDC_REQUIRE_SERVERS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist worksteal -m soak
	CDC_REQUIRE_SERVERS=1 $(BIN)/python -m tests.crash --minutes $(MINUTES) --workers $(WORKERS) $(ARGS)

# The Avro schemas of the practice's main tables, in schemas/avro: what the code makes of them now.
schemas: install servers
	CDC_WRITE_SCHEMAS=1 CDC_REQUIRE_SERVERS=1 $(BIN)/python -m pytest -q tests/commands/test_schemas.py

# Lives of a pipeline over simulated servers with a virtual clock, from seeds: months of them in a minute.
simulate: install
	$(BIN)/python -m tests.simulation $(ARGS)

# Random tables through the real pipeline; a run goes on where it was ended with the SEED of its last round.
property: install servers
	$(BIN)/python -m tests.property --schemas $(SCHEMAS) --seed $(SEED) $(ARGS)

# Mutated images against the codec: no server, one process per processor. FORM=asan builds its own sanitized kernels first.
FORM ?= plain
fuzz: install
	$(BIN)/python -m tests.fuzz --form $(FORM) $(ARGS)

# What a release has behind it; each run adds its line to tests/fuzz/ledger.jsonl.
fuzz-long: install
	$(BIN)/python -m tests.fuzz --form asan --count 1e7 --seed $$(date +%Y%m%d) --ledger $(ARGS)
	$(BIN)/python -m tests.fuzz --form plain --count 1e8 --seed $$(date +%Y%m%d) --ledger $(ARGS)

# Small wrong changes of the core, one at a time, against its fast tests: half an hour at most; `ARGS='--only sinks/cuts.py'` does one module.
mutants: install
	$(BIN)/python -m tests.mutation $(ARGS)

constraints: $(VENV)/.installed
	{ head -1 constraints.txt; $(BIN)/python -m pip freeze --exclude-editable --all | grep -v '^pip=='; } > $(VENV)/constraints.txt
	mv $(VENV)/constraints.txt constraints.txt

clean:
	if [ -f .cdc/stack.json ] && [ -x $(BIN)/cdc ]; then $(BIN)/cdc down --purge; fi
	rm -rf build .mypy_cache .ruff_cache .pytest_cache .hypothesis *.egg-info $(VENV)/.extension
	rm -f cdc/codec/*.so cdc/codec/*.c
	find cdc snapshot sinks tests bench -name __pycache__ -type d -prune -exec rm -rf {} +
