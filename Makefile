# Everything runs in .venv, installed from the lock file. PYTHON names the Python 3.11 or 3.12 to use.
PYTHON ?= $(shell for p in python3.11 python3.12 python3; do $$p -c '' 2>/dev/null && echo $$p && break; done)
VENV := .venv
SHELL := /bin/bash
BIN := $(VENV)/bin
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help env gpu shared repro demo server move-tracking test lint lock benchmarks fuzz spark postgres backends

help:
	@echo "make repro   environment, the whole pipeline, the results"
	@echo "make demo    a page to try the champion on a photograph; on this machine alone"
	@echo "make server  a team's MLflow on PostgreSQL and S3, in containers; on this machine alone"
	@echo "make move-tracking  copies mlflow.db into that server, while it is empty"
	@echo "make test    environment, ruff, mypy, pytest"
	@echo "make env     the environment alone; make gpu adds CUDA to it, make shared what teams need"
	@echo "make lock    resolve the versions anew"
	@echo "make benchmarks  speed, beside the article's way; quarter of an hour or more"
	@echo "make fuzz    broken archives, annotations, images and requests, SECONDS=60 of each"
	@echo "make spark   the registered model on a local Spark; needs Java"
	@echo "make postgres    two pipelines and sweeps on a team's server; needs PostgreSQL"
	@echo "make backends    the training tests on Keras' JAX and PyTorch backends"

env: $(VENV)/installed

$(VENV)/installed: requirements.lock
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 13))' || { \
		echo "$(PYTHON): expected Python 3.11 or 3.12. Received: $$($(PYTHON) -V). Run make PYTHON=..." >&2; \
		exit 2; }
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/pip install --quiet $(shell grep '^uv==' requirements.lock)
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip sync --quiet --compile-bytecode requirements.lock
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --no-deps --editable .
	touch $@

gpu: env
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --editable ".[gpu]"

shared: env
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet --editable ".[shared]"

repro: env
	$(BIN)/person-attributes check
	$(BIN)/dvc repro
	@$(BIN)/person-attributes summarize
	@echo "before that       source $(BIN)/activate"

demo: env
	$(BIN)/person-attributes demo

SECRETS := PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY MLFLOW_AUTH_ADMIN_PASSWORD \
	MLFLOW_FLASK_SERVER_SECRET_KEY
deploy/.env:
	umask 077; for name in $(SECRETS); do \
		echo "$$name=$$($(PYTHON) -c 'import secrets; print(secrets.token_hex(20))')"; \
	done > $@

server: deploy/.env
	docker compose --file deploy/compose.yaml up --detach --build
	@echo "http://127.0.0.1:5000, user admin; its password and all others stand in deploy/.env"

move-tracking: shared deploy/.env
	set -a; source deploy/.env; PGHOST=127.0.0.1 PGUSER=mlflow \
		MLFLOW_BACKEND_STORE_URI=postgresql+psycopg:///mlflow \
		MLFLOW_TRACKING_URI=http://127.0.0.1:5000 MLFLOW_TRACKING_USERNAME=admin \
		MLFLOW_TRACKING_PASSWORD=$$MLFLOW_AUTH_ADMIN_PASSWORD \
		$(BIN)/person-attributes move-tracking

# Workers take tests from each other, so that all are busy to the end.
test: lint
	$(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal

lint: env
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

benchmarks: env
	$(BIN)/python -m benchmarks $(NAMES)

SECONDS := 60
fuzz: env
	for target in annotations archives images; do \
		$(BIN)/python -m fuzzing $$target $(SECONDS) 2>&1 | grep -v "REDUCE\|NEW\|Uses:\|INFO:"; \
		test $${PIPESTATUS[0]} -eq 0 || exit 1; \
	done
	$(BIN)/python -m fuzzing.endpoint models:/person-attributes@champion $(SECONDS)

# Not in the lock file: half a gigabyte for one test, and it needs Java.
spark: env
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet pyspark==4.3.0
	$(BIN)/pytest -m spark tests/serving/test_spark.py

# PostgreSQL comes from the system (apt-get install postgresql); S3 is moto's, in memory.
postgres: shared
	VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet "moto[s3]==5.2.5"
	$(BIN)/pytest -m postgres tests/test_sharing.py

# An environment of its own: JAX needs NumPy 2. Its warnings on fork and both backends' on NumPy are theirs.
backends:
	$(PYTHON) -m venv --clear .venv-backends
	.venv-backends/bin/pip install --quiet -r requirements-backends.txt
	.venv-backends/bin/pip install --quiet --no-deps imgaug==0.4.0
	for backend in jax torch; do \
		KERAS_BACKEND=$$backend PYTHONPATH=src .venv-backends/bin/python -m pytest tests/training \
			-p no:cacheprovider -W ignore::DeprecationWarning -W "ignore:os.fork" \
			-W "ignore::pytest.PytestUnraisableExceptionWarning" || exit; \
	done

lock: env
	$(BIN)/python scripts/lock.py
