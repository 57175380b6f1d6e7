# Tanda's commands. `make help` lists them.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
BIN := .venv/bin
# The uv that installs everything else; its version is part of the lock.
UV_VERSION := 0.13.8
FILES ?=
TESTS ?= tests

.PHONY: help install run up test check format bench bench-calls chaos sim demo-legacy docs console browser clean

help: ## list these commands
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{printf "  make %-11s %s\n", $$1, $$2}'

.venv/installed: pyproject.toml uv.lock
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check "uv==$(UV_VERSION)"
	@$(BIN)/uv sync --frozen --quiet --compile-bytecode
	@$(BIN)/python -m compileall -q tanda services
	@touch $@

install: .venv/installed ## put everything into .venv, pinned by the lock

run: install ## start everything, process the sample batch (or FILES=path/*) and leave the console open
	@$(BIN)/tanda demo $(FILES)

up: install ## start everything and leave it running, without a sample
	@$(BIN)/tanda up

test: install browser ## every test that belongs to a change: unit, conformance, integration, e2e, house, a short chaos run
	@$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder $(TESTS)

check: install ## the static checks: ruff, basedpyright, the house's own rules
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/basedpyright && $(BIN)/python -m pytest tests/house

format: install ## bring the code into the house's form
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

bench: install ## measure ours beside the servers' own limits and beside what people use today; writes docs/performance.*
	@$(BIN)/python -m bench && $(BIN)/python -m bench --peers

bench-calls: install ## 10,000 calls of a provider over four workers, some killed: never more at once than its limit
	@$(BIN)/python -m bench.calls

chaos: install ## the long chaos run: CHAOS_FAULTS faults over CHAOS_FILES files by CHAOS_SEED, then CHAOS_ROUNDS kills
	@CHAOS_FAULTS=$${CHAOS_FAULTS:-100} CHAOS_FILES=$${CHAOS_FILES:-5000} CHAOS_BATCH_FILES=$${CHAOS_BATCH_FILES:-1000} \
	  CHAOS_LOG_DISK=$${CHAOS_LOG_DISK:-3g} CHAOS_LOG=1 TANDA_TEST_CHAOS_ROUNDS=$${CHAOS_ROUNDS:-40} $(BIN)/python -m pytest tests/chaos

sim: install ## the simulation over SEEDS short schedules (100000 by default), a tenth of it long ones, and planted bugs
	@TANDA_TEST_EXAMPLES=$${SEEDS:-100000} $(BIN)/python -m pytest tests/sim
	@TANDA_TEST_EXAMPLES=$$(( $${SEEDS:-100000} / 10 )) $(BIN)/python -m pytest \
	  tests/unit/model/test_simulation.py tests/unit/model/test_planted.py

demo-legacy: install ## drive the running stack (or that of TANDA_URL) with one script for each of the five older systems
	@demo/legacy/run.sh

docs: install ## write the generated pages again
	@$(BIN)/python -m tests.house.events_page

console: install ## build the web console from console/ into the gateway (needs Node 20.19 or newer), and its tests' vectors
	@cd console && npm ci --no-audit --no-fund --silent && npm run --silent check && npm run --silent build
	@$(BIN)/python -m tests.house.console_vectors

browser:
	@if ! [ -x /usr/bin/chromium ]; then \
	  if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	    (apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq chromium) >/dev/null 2>&1; fi; \
	  [ -x /usr/bin/chromium ] || echo "Chromium could not be installed: the console's tests in a browser will be skipped." >&2; fi

clean: ## remove what was installed and the embedded data
	rm -rf .venv .tanda
