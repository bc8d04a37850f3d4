# `make help` lists the targets. Everything lives in .venv; the lock is constraints.txt.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)
export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := 1
export MLFLOW_DISABLE_TELEMETRY := true
export DVC_NO_ANALYTICS := 1
export GX_ANALYTICS_ENABLED := false

TABLES := summary long table2 table3 table4 table6 table7
.PHONY: help setup data repro $(TABLES) test test-whole test-slow check audit bench up down status ui docs clean
.DEFAULT_GOAL := help

help: ## List the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-10s %s\n", $$1, $$2}'
	@echo '  make TABLE      Run one of: $(TABLES) (narrow it with ARGS, see flows/tables.py)'

setup: $(VENV)/.ready ## Make .venv with everything the lock names

$(VENV)/.ready: pyproject.toml constraints.txt
	@echo "set-up, once: $$(grep -c == constraints.txt) packages into $(VENV) (some minutes, about 6 GB)"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --progress-bar on -c constraints.txt -e '.[dev]'
	@touch $@
	@echo "set-up done"

data: setup ## Fill in the sample data set where no data are
	$(BIN)/lerenet data sample --if-missing

repro: data ## Set up and run the whole pipeline on the data (the sample, unless you imported yours)
	$(BIN)/dvc repro
	@echo "report: artifacts/report/report.html"

# For instance: make table3 ARGS="--folds fold2 --epochs 1"
$(TABLES): data
	$(BIN)/python -m flows.tables $@ $(ARGS)

test: setup ## Set up and run the tests
	$(BIN)/python -m pytest -n auto --dist loadfile

test-whole: setup ## The tests of whole promotions, flows and pages: seconds each
	$(BIN)/python -m pytest -m whole -n auto --dist loadfile

test-slow: setup ## The slow tests: whole pipelines, kill and resume (ARGS: some of their files)
	$(BIN)/python -m pytest -m slow -n 2 --dist loadfile $(ARGS)

check: setup ## Lint, format and type checks, audit
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(MAKE) audit

docs: setup ## Build the documents as a site: artifacts/site/index.html
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet
	@echo "documents: artifacts/site/index.html"

audit: setup ## Known vulnerabilities of the locked packages, where a service answers
	$(BIN)/python .ci/audit.py

bench: data ## Compare speed with the plain ways on this machine, about 10 minutes (ARGS for options)
	$(BIN)/python -m benchmarks $(ARGS)

up: setup ## Start Prefect, MLflow, worker and data watcher on this machine, and register the deployments
	$(BIN)/python -m flows.services up

down: setup ## Stop them, and everything they started
	$(BIN)/python -m flows.services down

status: setup ## Say which of them run and answer
	$(BIN)/python -m flows.services status

ui: setup ## MLflow's pages on http://127.0.0.1:5000
	$(BIN)/mlflow ui --backend-store-uri sqlite:///mlflow.db --host 127.0.0.1

clean: ## Remove outputs, caches and the environment (data and registry stay)
	rm -rf artifacts .cache .checkpoints $(VENV) .mypy_cache .pytest_cache .ruff_cache
