# Every step of development and CI is a target here. `make help` lists them.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

BIN := .venv/bin
ARGS ?=
# The first interpreter that runs and is new enough, unless the caller names one.
FIND_PYTHON = for found in $(PYTHON) python3 python3.13 python3.12 python3.11 python3.14; do \
	$$found -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && break; found=; done; \
	test -n "$$found" || { echo "setup: python3 3.11 or newer is missing (Debian: apt-get install python3 python3-venv)" >&2; exit 1; }
PYTHON ?=
export CARGO_TARGET_DIR ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/bettong/target
CRATES := --manifest-path engine/Cargo.toml --workspace
# Engine tests open the library inside the installed wheel, as the product does.
ORT = $(firstword $(wildcard .venv/lib/python3*/site-packages/onnxruntime/capi/libonnxruntime.so.*))

.PHONY: help setup setup-dev protos engine locks fmt check test test-slow test-cluster chaos e2e bench bench-gate build run clean

help:  ## List the targets.
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup:  ## Prepare everything that `make run` needs (.venv, packages, engine).
	@$(FIND_PYTHON); exec $$found tools/set_up.py

setup-dev: setup  ## Also prepare what tests and checks need.
	@$(FIND_PYTHON); exec $$found tools/set_up.py --dev

run: setup  ## Serve the demo and show it live; ARGS="--rate 500 --duration 30 --seed 1".
	@exec $(BIN)/python tools/run_in_foreground.py $(BIN)/bettong demo $(ARGS)

protos: setup-dev  ## Generate the Python stubs from protos/.
	@$(BIN)/python tools/generate_protos.py

engine: setup  ## Build the engine.

locks: setup-dev  ## Write the lock files anew from requirements*.in.
	@$(BIN)/python tools/compile_locks.py

fmt: setup-dev  ## Format Python and Rust.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix --select I .
	cargo fmt --manifest-path engine/Cargo.toml --all

check: setup-dev  ## Lint, types, import directions, budgets, generated code.
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy sdk/bettong services/kit/bettong_kit services/domain/bettong_domain services/catalog/bettong_catalog services/serving/bettong_serving services/gateway/bettong_gateway services/executor/bettong_executor services/router/bettong_router tools tests $(wildcard examples bench)
	$(BIN)/lint-imports --config pyproject.toml
	$(BIN)/python tools/check_budgets.py
	$(BIN)/python tools/generate_protos.py --check
	cargo fmt --manifest-path engine/Cargo.toml --all --check
	cargo clippy $(CRATES) --all-targets -- -D warnings

test: setup-dev  ## Run the fast tests of Rust and Python.
	ORT_DYLIB_PATH=$(abspath $(ORT)) cargo test $(CRATES)
	$(BIN)/pytest $(ARGS)

test-slow: setup-dev  ## Run the tests that take their time.
	$(BIN)/pytest -m "slow and not e2e" --timeout 600 $(ARGS)

test-cluster: setup-dev  ## Run the tests of protocols and SDK against a gateway with a router and an executor behind it.
	BETTONG_TESTED=cluster $(BIN)/pytest tests/integration/protocols tests/integration/sdk tests/witnesses $(ARGS)

chaos: setup-dev  ## Kill, pause, cut off and overload clusters; CHAOS_S=60 seconds each, BETTONG_SEED repeats one.
	BETTONG_CHAOS_S=$(or $(CHAOS_S),60) $(BIN)/pytest -m slow -s --timeout 7200 tests/chaos/test_cluster_*.py tests/chaos/test_etcd_faults.py $(ARGS)

e2e: setup-dev  ## Run the product as a user does.
	$(BIN)/pytest -m e2e --timeout 600 $(ARGS)

bench: setup-dev  ## Measure beside raw ONNX Runtime and other servers.
	$(BIN)/python -m bench $(ARGS)

bench-gate: setup-dev  ## Count instructions a request and compare with bench/budgets.toml.
	$(BIN)/python -m bench.gate $(ARGS)

build: setup-dev  ## Build the three wheels into dist/.
	rm -rf dist
	$(BIN)/uv build --quiet --wheel --no-build-isolation --out-dir dist sdk
	$(BIN)/uv build --quiet --wheel --no-build-isolation --out-dir dist services
	$(BIN)/maturin build --release --manifest-path engine/python/Cargo.toml --out dist

clean:  ## Remove what was built, except the shared crate cache.
	rm -rf .venv dist build .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage*
	find . -name __pycache__ -prune -exec rm -rf {} +
	find engine sdk services -name '*.so' -delete
