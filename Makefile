# PyTorch is the one large part. Where pip has no other index, its build for Linux has CUDA in it:
# gigabytes. For the small one, name the index of PyTorch's CPU builds; or take another version:
#   make demo TORCH_INDEX=URL
#   make setup TORCH=torch==2.8.0
TORCH ?= torch==2.13.0
TORCH_INDEX ?=
PIP_TORCH = "$(TORCH)" $(if $(TORCH_INDEX),--extra-index-url $(TORCH_INDEX))
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEMO_STAMP := $(VENV)/.demo
CONSTRAINTS := .ci/constraints.txt
SOURCES := emulator tests examples
# Most tests wait for jobs: two processors have work for three workers.
WORKERS ?= 3
SIDE_BY_SIDE := --numprocesses $(WORKERS) --dist loadfile --no-loadscope-reorder

# Tests start this package in hundreds of processes; each would compile it anew.
unexport PYTHONDONTWRITEBYTECODE

.DEFAULT_GOAL := help
.PHONY: bench-api coverage coverage-table lock help setup fmt lint types arch unit test test-docker test-gpu test-all check demo docs clean

help: ## Say what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

setup: $(STAMP) ## Make .venv with everything the tests and the demo need

$(STAMP): pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint $(CONSTRAINTS) $(PIP_TORCH) --editable ".[dev]"
	touch $@

# What the demo needs and nothing more; `make setup` puts the rest beside it.
$(DEMO_STAMP): pyproject.toml $(CONSTRAINTS)
	@echo "1 of 2: the emulator, PyTorch and AWS's training toolkit are installed into $(VENV):"
	@echo "        some minutes, 1.4 GB with PyTorch's CPU build, several GB with CUDA."
	@$(if $(TORCH_INDEX),,echo "        The CPU build from an index of its own: make demo TORCH_INDEX=URL")
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --constraint $(CONSTRAINTS) $(PIP_TORCH) --editable ".[demo]"
	@touch $@
	@echo "2 of 2: a model is trained and deployed"

fmt: $(STAMP) ## Format the code
	$(BIN)/ruff format $(SOURCES)
	$(BIN)/ruff check --fix --quiet $(SOURCES)

lint: $(STAMP) ## Look for mistakes and for unformatted code
	$(BIN)/ruff format --check $(SOURCES)
	$(BIN)/ruff check $(SOURCES)

types: $(STAMP) ## Check types (mypy, strict)
	$(BIN)/mypy

arch: $(STAMP) ## Check that no floor imports one above it
	$(BIN)/lint-imports

unit: $(STAMP) ## Unit tests, with few examples of each property
	$(BIN)/pytest -q --numprocesses logical --maxprocesses 4 --dist worksteal \
		--hypothesis-profile quick tests/unit tests/architecture

# At the same time: mypy without its cache takes as long as the tests.
check: $(STAMP) ## Lint, types, floors and unit tests
	$(MAKE) --jobs=2 --output-sync=target --no-print-directory lint arch types unit

test: $(STAMP) ## Every test that needs no container engine
	$(BIN)/pytest -m "not docker" $(SIDE_BY_SIDE) $(PYTEST_FLAGS)

coverage: $(STAMP) ## Which lines the tests run, those in processes of their own left out
	$(BIN)/pytest -q -m "not docker and not sdk" --cov emulator --cov-report term:skip-covered \
		$(SIDE_BY_SIDE) tests/unit tests/contract tests/integration $(PYTEST_FLAGS)

test-gpu: $(STAMP) ## Jobs on this machine's GPUs; says why where it cannot
	$(BIN)/pytest -m gpu tests/gpu

test-docker: $(STAMP) ## The tests in containers; installs, starts and fills an engine if need be
	.ci/docker
	$(BIN)/pytest -m docker $(SIDE_BY_SIDE) $(PYTEST_FLAGS)

test-all: $(STAMP) ## Every test, those in containers included
	.ci/docker
	$(BIN)/pytest $(SIDE_BY_SIDE) $(PYTEST_FLAGS)

# PyTorch and what comes with a CUDA build of it are left to TORCH above.
lock: ## Pin what the environment is made of, for every Python that is supported
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet uv
	echo '# Written by make lock' > $(CONSTRAINTS)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.10 --all-extras --upgrade \
		--no-header --no-annotate --no-emit-package torch --no-emit-package setuptools \
		pyproject.toml | grep -vE '^(nvidia-[cn]|cuda-|triton)' >> $(CONSTRAINTS)

docs: $(STAMP) ## Make a site of the documents in site/; a broken link ends it
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

coverage-table: $(STAMP) ## Write docs/coverage.md from the code
	$(BIN)/python -m emulator.aws.coverage > docs/coverage.md

bench-api: $(STAMP) ## Requests a second of the endpoint, beside moto's server
	$(BIN)/python tests/benchmarks/api_throughput.py

demo: $(or $(wildcard $(STAMP)),$(DEMO_STAMP)) ## Train a model on two instances and deploy it
	$(BIN)/sagemaker-emulator demo

clean: ## Remove environments and caches
	rm -rf $(VENV) site .envs .coverage .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
