# Everything runs in .venv, which uv installs from the lock files. Set PYTHON to choose a Python.
# The default is the system's 3.11, 3.12 or 3.13, or else a Python that uv downloads.
VENV := .venv
SHELL := /bin/bash
BIN := $(VENV)/bin
PIP = VIRTUAL_ENV=$(VENV) $(BIN)/uv pip install --quiet
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: help env gpu shared repro demo image server move-tracking test check lint fast-tests slow-tests \
	lock platforms benchmarks fuzz spark postgres backends

help:
	@echo "make repro       install the environment, run the whole pipeline, show the results"
	@echo "make demo        serve a local page to try the champion on photographs"
	@echo "make image       build a container image that serves the champion: docs/operating.md"
	@echo "make server      start MLflow for a team, on PostgreSQL and S3, in local containers"
	@echo "make move-tracking  copy mlflow.db to that server, which must be empty"
	@echo "make test        run ruff, import-linter, mypy and the tests; 18 to 35 minutes"
	@echo "make check       run ruff, import-linter, mypy and the fast tests; five minutes"
	@echo "make env         install the environment; make gpu adds CUDA, make shared team tools"
	@echo "make lock        update the lock files; make platforms checks them for all platforms"
	@echo "make benchmarks  measure speed against other implementations; 15 minutes or more"
	@echo "make fuzz        fuzz archives, annotations, images, lists and requests, SECONDS=60 each"
	@echo "make spark       test the registered model on a local Spark; needs Java"
	@echo "make postgres    test pipelines and sweeps on a team's server; needs PostgreSQL"
	@echo "make backends    run the training tests on Keras' JAX and PyTorch backends"

env: $(VENV)/installed-package

# A .venv that was moved or copied contains its old path, so it is rebuilt.
ifneq ($(shell cat $(VENV)/installed 2>/dev/null),$(CURDIR))
.PHONY: $(VENV)/installed
endif

$(VENV)/installed: requirements.lock
	@scripts/environment.sh

# pyproject.toml sets the version and the commands of the installed package.
$(VENV)/installed-package: $(VENV)/installed pyproject.toml
	$(PIP) --no-deps --editable .
	touch $@

# Additional packages: the tools of the tests, and the extras of pyproject.toml.
$(VENV)/installed-dev: $(VENV)/installed-package requirements-dev.lock
	$(PIP) --requirements requirements-dev.lock
	touch $@

$(VENV)/installed-%: $(VENV)/installed requirements-dev.lock
	$(PIP) --constraints <(grep -v third_party requirements-dev.lock) --editable '.[$*]'
	touch $@

gpu: $(VENV)/installed-gpu

shared: $(VENV)/installed-shared

# One shell, to measure the total time.
repro:
	@echo "1. environment  .venv, once: 1 GB to download, 3.4 GB on disk, a minute or more"
	@echo "2. pipeline     data, five phases, evaluation, registration: four minutes on two cores"
	@echo "                with the default params.yaml. Stages that are up to date are skipped."
	@begun=$$(date +%s) && $(MAKE) --silent env && \
	echo "environment ready after $$(($$(date +%s) - begun)) s" && \
	$(BIN)/person-attributes check && $(BIN)/dvc repro && \
	echo "make repro took $$(($$(date +%s) - begun)) s" && $(BIN)/person-attributes summarize

demo: env
	$(BIN)/person-attributes demo

# MODEL chooses another version. The registry in MLFLOW_TRACKING_URI has it, or mlflow.db.
MODEL := models:/person-attributes@champion
image: env
	rm -rf deploy/scoring/model
	$(BIN)/mlflow artifacts download --artifact-uri $(MODEL) --dst-path deploy/scoring/model
	docker build --tag person-attributes-scoring deploy/scoring

SECRETS := PGPASSWORD AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY MLFLOW_AUTH_ADMIN_PASSWORD \
	MLFLOW_FLASK_SERVER_SECRET_KEY
deploy/.env:
	umask 077; for name in $(SECRETS); do \
		echo "$$name=$$(od -An -N20 -tx1 /dev/urandom | tr -d ' \n')"; \
	done > $@

server: deploy/.env
	docker compose --file deploy/compose.yaml up --detach --build
	@echo "http://127.0.0.1:5000, user admin; all passwords are in deploy/.env"

move-tracking: shared deploy/.env
	set -a; source deploy/.env; PGHOST=127.0.0.1 PGUSER=mlflow \
		MLFLOW_BACKEND_STORE_URI=postgresql+psycopg:///mlflow \
		MLFLOW_TRACKING_URI=http://127.0.0.1:5000 MLFLOW_TRACKING_USERNAME=admin \
		MLFLOW_TRACKING_PASSWORD=$$MLFLOW_AUTH_ADMIN_PASSWORD \
		$(BIN)/python deploy/move_tracking.py

# The tests of a file share fixtures, so they run in one worker. The longest test stays first.
PARALLEL := --numprocesses auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder
test: lint
	$(BIN)/pytest $(PARALLEL)

lint: $(VENV)/installed-dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports
	$(BIN)/mypy

# For development: these tests need no pipeline, Spark or PostgreSQL.
check: lint fast-tests

# CI runs lint, fast-tests and slow-tests in parallel.
fast-tests: $(VENV)/installed-dev
	$(BIN)/pytest $(PARALLEL) -m "not pipeline and not spark and not postgres"

slow-tests: $(VENV)/installed-dev
	$(BIN)/pytest $(PARALLEL) -m "pipeline and not spark and not postgres"

benchmarks: $(VENV)/installed-dev
	$(BIN)/python -m benchmarks $(NAMES)

SECONDS := 60
fuzz: $(VENV)/installed-dev
	for target in annotations archives images lists; do \
		$(BIN)/python -m fuzzing $$target $(SECONDS) 2>&1 | grep -v "REDUCE\|NEW\|Uses:\|INFO:"; \
		test $${PIPESTATUS[0]} -eq 0 || exit 1; \
	done
	$(BIN)/python -m fuzzing.endpoint models:/person-attributes@champion $(SECONDS)

# pyspark is not in the lock file: it needs Java, and half a gigabyte for one test.
spark: $(VENV)/installed-dev
	$(PIP) pyspark==4.3.0
	$(BIN)/pytest -m spark tests/serving/test_spark.py

# PostgreSQL must be installed (apt-get install postgresql). moto provides S3 in memory.
postgres: $(VENV)/installed-dev
	$(PIP) "moto[s3]==5.2.5"
	$(BIN)/pytest -m postgres tests/deploy/test_sharing.py

# A separate environment: Keras imports PyTorch if it is installed.
backends: env
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python .venv-backends
	VIRTUAL_ENV=.venv-backends $(BIN)/uv pip install --quiet --requirements requirements-backends.txt
	for backend in jax torch; do \
		KERAS_BACKEND=$$backend PYTHONPATH=src .venv-backends/bin/python -m pytest tests/training \
			tests/runtime/test_devices.py tests/commands/test_lr_find.py tests/experiments/test_distillation.py \
			-p no:cacheprovider -W ignore::DeprecationWarning -W "ignore:os.fork" \
			-W "ignore::pytest.PytestUnraisableExceptionWarning" \
			-W "ignore:The .grad attribute of a Tensor" || exit; \
	done

lock: env
	$(BIN)/python scripts/lock.py

# Checks that all locked versions have wheels. antlr4-python3-runtime is pure Python without one.
PLATFORMS := x86_64-unknown-linux-gnu aarch64-unknown-linux-gnu aarch64-apple-darwin \
	x86_64-pc-windows-msvc
platforms: env
	@for platform in $(PLATFORMS); do for python in 3.11 3.12 3.13; do \
		MACOSX_DEPLOYMENT_TARGET=14.0 $(BIN)/uv pip compile --quiet requirements-dev.lock \
			--python-platform $$platform --python-version $$python \
			--only-binary :all: --no-binary antlr4-python3-runtime > /dev/null || exit; \
		echo "$$platform, Python $$python: all versions have wheels"; \
	done; done
