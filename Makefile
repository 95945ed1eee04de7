# Everything runs in .venv, installed from the lock files by uv. PYTHON names the Python to use;
# without it, it is the system's 3.11, 3.12 or 3.13, or one that uv downloads.
VENV := .venv
SHELL := /bin/bash
BIN := $(VENV)/bin
PIP = VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help env gpu shared repro demo server move-tracking test check lint fast-tests slow-tests \
	lock platforms benchmarks fuzz spark postgres backends

help:
	@echo "make repro   environment, the whole pipeline, the results"
	@echo "make demo    a page to try the champion on a photograph; on this machine alone"
	@echo "make server  a team's MLflow on PostgreSQL and S3, in containers; on this machine alone"
	@echo "make move-tracking  copies mlflow.db into that server, while it is empty"
	@echo "make test    environment, ruff, import-linter, mypy, pytest"
	@echo "make check   ruff, mypy and the tests that need no pipeline: two minutes"
	@echo "make env     the environment alone; make gpu adds CUDA to it, make shared what teams need"
	@echo "make lock    resolve the versions anew; make platforms asks whether every machine has them"
	@echo "make benchmarks  speed, beside the article's way; quarter of an hour or more"
	@echo "make fuzz    broken archives, annotations, images and requests, SECONDS=60 of each"
	@echo "make spark   the registered model on a local Spark; needs Java"
	@echo "make postgres    two pipelines and sweeps on a team's server; needs PostgreSQL"
	@echo "make backends    the training tests on Keras' JAX and PyTorch backends"

env: $(VENV)/installed-package

# A .venv that was moved or copied names its old place, so it is built anew.
ifneq ($(shell cat $(VENV)/installed 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/installed
endif

$(VENV)/installed: requirements.lock
	@scripts/environment.sh

# The installed package has the version and the commands of pyproject.toml.
$(VENV)/installed-package: $(VENV)/installed pyproject.toml
	$(PIP) --no-deps --editable .
	touch $@

# What is beyond running the pipeline: extras of pyproject.toml, and all that tests need.
$(VENV)/installed-dev: $(VENV)/installed-package requirements-dev.lock
	$(PIP) --requirements requirements-dev.lock
	touch $@

$(VENV)/installed-%: $(VENV)/installed requirements-dev.lock
	$(PIP) --constraints <(grep -v third_party requirements-dev.lock) --editable '.[$*]'
	touch $@

gpu: $(VENV)/installed-gpu

shared: $(VENV)/installed-shared

# One shell, to tell at the end what it took.
repro:
	@echo "1. environment  .venv, 1 GB to download and 3.4 GB on disk; a minute or more, once"
	@echo "2. pipeline     data, five phases, evaluation, registration; four minutes on two cores"
	@echo "                with the params.yaml that is shipped. What is done already is skipped."
	@begun=$$(date +%s) && $(MAKE) --silent env && \
	echo "environment ready after $$(($$(date +%s) - begun)) s" && \
	$(BIN)/person-attributes check && $(BIN)/dvc repro && \
	echo "make repro took $$(($$(date +%s) - begun)) s" && $(BIN)/person-attributes summarize

demo: $(VENV)/installed-demo
	$(BIN)/person-attributes demo

SECRETS := PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY MLFLOW_AUTH_ADMIN_PASSWORD \
	MLFLOW_FLASK_SERVER_SECRET_KEY
deploy/.env:
	umask 077; for name in $(SECRETS); do \
		echo "$$name=$$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')"; \
	done > $@

server: deploy/.env
	docker compose --file deploy/compose.yaml up --detach --build
	@echo "http://127.0.0.1:5000, user admin; its password and all others stand in deploy/.env"

move-tracking: shared deploy/.env
	set -a; source deploy/.env; PGHOST=127.0.0.1 PGUSER=mlflow \
		MLFLOW_BACKEND_STORE_URI=postgresql+psycopg:///mlflow \
		MLFLOW_TRACKING_URI=http://127.0.0.1:5000 MLFLOW_TRACKING_USERNAME=admin \
		MLFLOW_TRACKING_PASSWORD=$$MLFLOW_AUTH_ADMIN_PASSWORD \
		$(BIN)/python deploy/move_tracking.py

# Workers take tests from each other, so that all are busy to the end.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist worksteal
test: lint
	$(BIN)/pytest $(PARALLEL)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

# The inner loop: no test here needs a pipeline, Spark or PostgreSQL.
check: lint fast-tests

# CI runs lint and these two in parallel.
fast-tests: $(VENV)/installed-dev
	$(BIN)/pytest $(PARALLEL) -m "not pipeline and not spark and not postgres"

slow-tests: $(VENV)/installed-dev
	$(BIN)/pytest $(PARALLEL) -m "pipeline and not spark and not postgres"

benchmarks: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks $(NAMES)

SECONDS := 60
fuzz: $(VENV)/installed-dev
	for target in annotations archives images; do \
		$(BIN)/python -m fuzzing $$target $(SECONDS) 2>&1 | grep -v "REDUCE\|NEW\|Uses:\|INFO:"; \
		test $${PIPESTATUS[0]} -eq 0 || exit 1; \
	done
	$(BIN)/python -m fuzzing.endpoint models:/person-attributes@champion $(SECONDS)

# Not in the lock file: half a gigabyte for one test, and it needs Java.
spark: $(VENV)/installed-dev
	$(PIP) pyspark==4.3.0
	$(BIN)/pytest -m spark tests/serving/test_spark.py

# PostgreSQL comes from the system (apt-get install postgresql); S3 is moto's, in memory.
postgres: $(VENV)/installed-dev
	$(PIP) "moto[s3]==5.2.5"
	$(BIN)/pytest -m postgres tests/deploy/test_sharing.py

# An environment of its own: Keras imports PyTorch wherever it finds it.
backends: env
	$(BIN)/python -m venv --clear .venv-backends
	.venv-backends/bin/pip install --quiet -r requirements-backends.txt
	for backend in jax torch; do \
		KERAS_BACKEND=$$backend PYTHONPATH=src .venv-backends/bin/python -m pytest tests/training \
			tests/runtime/test_devices.py tests/commands/test_lr_find.py \
			-p no:cacheprovider -W ignore::DeprecationWarning -W "ignore:os.fork" \
			-W "ignore::pytest.PytestUnraisableExceptionWarning" || exit; \
	done

lock: env
	$(BIN)/python scripts/lock.py

# Has every machine wheels of all that is locked? antlr4-python3-runtime is pure Python without one.
PLATFORMS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin \
	x86_64-pc-windows-msvc
platforms: env
	@for platform in $(PLATFORMS); do for python in 3.11 3.12 3.13; do \
		MACOSX_DEPLOYMENT_TARGET=14.0 $(BIN)/uv pip compile --quiet requirements-dev.lock \
			--python-platform $$platform --python-version $$python \
			--only-binary :all: --no-binary antlr4-python3-runtime > /dev/null || exit; \
		echo "$$platform, Python $$python: every version has its wheel"; \
	done; done
