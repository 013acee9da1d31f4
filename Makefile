# havre: `make quickstart` runs the main job, `make test` the tests. `make help` lists the rest.
SHELL := /bin/bash
VENV ?= .venv
BIN := $(VENV)/bin
PYTHON ?=
SEED ?= 1
MINUTES ?= 5

.PHONY: help quickstart install dev format lint types arrows docs surface check unit coverage packages test forks matrix chaos soak bench bench-quick bench-start bench-whole bench-binary bench-logs clean

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(VENV)/.installed: pyproject.toml constraints.txt scripts/bootstrap
	@scripts/bootstrap $(VENV)
	@$(BIN)/uv pip install --python $(BIN)/python -q -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.installed
	@$(BIN)/uv pip install --python $(BIN)/python -q -c constraints.txt --group dev
	@touch $@

install: $(VENV)/.installed  ## a virtual environment with havre in it

dev: $(VENV)/.dev  ## the same, with what the tests need

quickstart: install  ## serve a real model and predict with it
	@$(BIN)/havre quickstart

format: dev  ## rewrite the code in the house format
	@$(BIN)/ruff format . && $(BIN)/ruff check --fix .

lint: dev
	@$(BIN)/ruff format --check . && $(BIN)/ruff check .

types: dev
	@$(BIN)/mypy

arrows: dev
	@$(BIN)/lint-imports

docs: dev  ## write the pages that are derived from the code
	@$(BIN)/python scripts/generate-docs

surface: dev  ## write down the names that users rely on: commands, settings, metrics, Python
	@$(BIN)/python -m tests.support.public_surface

unit: dev
	@HAVRE_TEST_BUDGET=1 $(BIN)/pytest -n auto tests/unit tests/contract

coverage: dev  ## lines that unit and contract tests run; less than the committed figure fails
	@$(BIN)/pytest -n auto --cov --cov-report term:skip-covered tests/unit tests/contract

check: lint types arrows unit  ## format, lint, types, import arrows, unit and contract tests

packages:  ## what the tests need of the system, installed where that is allowed
	@scripts/install-test-packages

# The longest first, and who has nothing left takes over half of the others' tests: a module's server
# is seldom started twice, and nobody is left with minutes of chaos in the end.
test: packages dev check  ## everything
	@HAVRE_TEST_BUDGET=1 $(BIN)/pytest -n auto --dist worksteal tests/chaos tests/e2e tests/hostile tests/matrix tests/integration

forks: dev  ## libraries with threads of their own, each in a fork: the table of copies.md (gigabytes, an hour)
	@HAVRE_FORKS=all $(BIN)/pytest tests/integration/test_copy_libraries.py
	@$(BIN)/python scripts/generate-docs

matrix: dev  ## machines that lack something, in every combination (half an hour)
	@HAVRE_MATRIX=product $(BIN)/pytest -n auto tests/matrix

chaos: dev  ## changes and faults under load (SEED=1 MINUTES=5), then every test of trouble, longer
	@CHAOS_SEED=$(SEED) CHAOS_MINUTES=$(MINUTES) $(BIN)/pytest -s tests/chaos
	@CHAOS_ROUNDS=50 CHAOS_IDLE=10000 CRASH_AT_EVERY=1 FUZZ_EXAMPLES=200 \
		$(BIN)/pytest --timeout 3600 tests/e2e/test_kills.py tests/e2e/test_kills_together.py tests/e2e/test_leaks.py \
		tests/e2e/test_hostile_clients.py tests/e2e/test_overload.py \
		tests/integration/test_telemetry_crashes.py \
		tests/unit/reconciler/test_crashes.py tests/contract/test_fuzz_api.py \
		tests/contract/test_api_lives.py
	@$(BIN)/pytest -n auto --hypothesis-profile=explore tests/unit

soak: dev  ## half an hour of changes and faults under load (SEED=1)
	@CHAOS_SEED=$(SEED) CHAOS_MINUTES=30 $(BIN)/pytest -s tests/chaos

bench: dev  ## havre and its peers on the same work; ARGS="--servers … --workloads … --rounds 5"
	@$(BIN)/python -m bench $(ARGS)

bench-quick: dev  ## the same on fewer workloads, with granian, FastAPI and mosec
	@$(BIN)/python -m bench --quick $(ARGS)

bench-start: install  ## how long deployments, and copies that died, take to start
	@$(BIN)/python -m bench.start_time

bench-whole: install  ## a full API, shared memory, big artifacts, where each microsecond goes
	@$(BIN)/python -m bench.api_time
	@$(BIN)/python -m bench.shared_memory
	@$(BIN)/python -m bench.big_artifact
	@$(BIN)/python -m bench.breakdown

bench-logs: dev  ## what logs and metrics cost, and how long searches take
	@$(BIN)/python -m bench.log_cost
	@$(BIN)/python -m bench.log_query
	@$(BIN)/python -m bench.printing

bench-binary: dev  ## arrays and tables against the same numbers in JSON
	@$(BIN)/python -m bench.binary_bodies

clean:
	@rm -rf $(VENV) build dist
