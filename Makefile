# Everything here sets up what it needs: Python 3.11+ and make are enough.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
TOOLS := $(VENV)/.tools
AUDIT := .audit

.PHONY: help demo test lint bench throughput latency drills simulate fuzz lock audit clean
help:
	@echo "make demo            a whole flash sale on this machine, three minutes (ARGS='--skus 1000 --json')"
	@echo "make test            the test suite (ARGS='-k windows')"
	@echo "make lint            format, lint, types, import direction"
	@echo "make fuzz            every decoder against hostile bytes, guided by coverage; kernels as plain Python too (ARGS='--seconds 60')"
	@echo "make bench           the benchmarks, as tables"
	@echo "make throughput      the same job on flashcast and other programs, on Apache Kafka (ARGS=--list)"
	@echo "make latency         how long an answer takes under a steady load, on Apache Kafka (ARGS='--rate 20000')"
	@echo "make drills          faults under load on Apache Kafka, counted (ARGS='--list', '--quick')"
	@echo "make lock            pin what the image installs anew, with digests"
	@echo "make audit           hold the pins against the known vulnerabilities"
	@echo "make simulate        thousands of seeded runs through faults, no broker (ARGS='--first 1 --seeds 5000')"
	@echo "make clean           remove the virtual environment and caches"

$(INSTALLED): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "flashcast needs Python 3.11 or newer, this is " + sys.version.split()[0] + ": make PYTHON=python3.12 ...")'
	@echo "setting up $(VENV): a minute the first time"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded]'
	@echo "compiling the stream kernels"
	@$(BIN)/python -m streams.warm_up
	@touch $@

$(TOOLS): $(INSTALLED)
	@echo "adding what tests and checks need"
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,dev]'
	@touch $@

demo: $(INSTALLED)
	@$(BIN)/flashcast demo $(ARGS)

test: $(TOOLS)
	@$(BIN)/python -m pytest $(ARGS)

lint: $(TOOLS)
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

bench: $(TOOLS)
	@for bench in benchmarks/*.py; do echo "== $$bench"; $(BIN)/python -m benchmarks.$$(basename $$bench .py) || exit 1; done

throughput: $(TOOLS)
	@$(BIN)/python -m benchmarks.throughput $(ARGS)

latency: $(TOOLS)
	@$(BIN)/python -m benchmarks.latency $(ARGS)

fuzz: $(TOOLS)
	@$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[embedded,dev,fuzz]'
	@$(BIN)/python -m tests.fuzz.run $(ARGS)

drills: $(TOOLS)
	@$(BIN)/python -m benchmarks.drills $(ARGS)

$(AUDIT)/.installed:
	@$(PYTHON) -m venv $(AUDIT)
	@$(AUDIT)/bin/pip install --quiet --disable-pip-version-check uv pip-audit
	@touch $@

lock: $(AUDIT)/.installed
	@deploy/lock.sh $(AUDIT)/bin/uv

audit: $(AUDIT)/.installed
	@$(PYTHON) deploy/audit.py $(AUDIT)/bin/pip-audit
simulate: $(INSTALLED)
	@$(BIN)/flashcast simulate-faults $(or $(ARGS),--seeds 2000)

clean:
	rm -rf $(VENV) $(AUDIT) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist
	find streams models tests benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +
