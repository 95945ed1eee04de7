# Everything runs in .venv, installed from the lock file. PYTHON names the Python 3.11 or 3.12 to use.
PYTHON ?= $(shell command -v python3.12 || command -v python3.11 || echo python3)
VENV := .venv
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help env gpu repro test lint lock

help:
	@echo "make repro   environment, the whole pipeline, the results"
	@echo "make test    environment, ruff, mypy, pytest"
	@echo "make env     the environment alone; make gpu adds CUDA to it"
	@echo "make lock    resolve the versions anew"

env: $(VENV)/installed

$(VENV)/installed: requirements.lock
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet $(shell grep '^uv==' requirements.lock)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

gpu: env
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --constraint requirements.lock ".[gpu]"

repro: env
	$(BIN)/person-attributes check
	$(BIN)/dvc repro
	@$(BIN)/person-attributes summarize

test: lint
	$(BIN)/pytest

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

lock: env
	$(BIN)/python scripts/lock.py
