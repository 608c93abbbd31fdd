# Needs a Python >= 3.11 with venv; everything else is fetched into .venv and .cache.
PYTHON ?= python3
WORKERS ?= 1
# Time zones come from the locked tzdata; the system's may be years old.
export PYTHONTZPATH :=
PY := .venv/bin/python
# Only what is there: packages and kinds of tests may come and go.
CODE := $(wildcard app agents tables channels schemas deploy bench tests)
TYPED := $(foreach folder,app agents tables channels schemas deploy bench tests/sandbox,$(if $(wildcard $(folder)/*.py),$(folder)))
# Without what opens sockets, but with what compares pages and tables with the code.
COMPARED := openapi reasons topics config teams meter
FAST := $(wildcard tests/rules tests/schemas tests/agents tests/cases tests/docs tests/chaos tests/mutants) \
	$(wildcard $(foreach name,$(COMPARED),tests/*/test_$(name).py))

.DEFAULT_GOAL := help
.PHONY: help setup run stop test interop check format bench chaos canary mutants hostile sbom lock clean

help: ## show this
	@echo "A reminder service on Kafka. The two commands to know: make run, make test"
	@echo
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1 ~ \2/p' Makefile | column -t -s '~' 2>/dev/null || sed -n 's/^\([a-z]*\):.*## \(.*\)/  make \1  \2/p' Makefile
	@echo
	@echo "  Variables: WORKERS=2, KAFKA_BOOTSTRAP=host:port (your cluster), KAFKA_PORT, WEB_PORT, SMTP_SINK_PORT,"
	@echo "  REMINDERS_HOME (data, default .data), REMINDERS_CACHE (downloads, default .cache), PYTHON=python3.12"

setup: ## make .venv from the lock file
	@$(PYTHON) deploy/dev/bootstrap.py

run: setup ## broker, worker and mail server, with a first reminder; Ctrl-C ends all
	@$(PY) -m deploy.dev.run --workers $(WORKERS)

stop: setup ## end what a killed 'make run' left
	@$(PY) -m deploy.dev.stop

test: setup ## every test, on a broker of its own
	@$(PY) -m deploy.dev.broker fetch
	@fast=0; broker=0; \
	$(PY) -m pytest -q -n auto -m "not kafka" $(ARGS) || fast=$$?; \
	$(PY) -m pytest -m kafka --durations=30 $(ARGS) || broker=$$?; \
	for code in $$fast $$broker; do case $$code in 0|5) ;; *) exit $$code;; esac; done

interop: setup ## against Apicurio, Mailpit, Toxiproxy and promtool, fetched by go and mvn where they are not here
	@$(PY) -m deploy.dev.broker fetch
	@INTEROP=1 $(PY) -m pytest tests/interop $(ARGS)

check: setup ## format, lint, types, layers and the fast tests; under a minute
	@$(PY) -m ruff format --check $(CODE)
	@$(PY) -m ruff check $(CODE)
	@$(PY) -m mypy $(TYPED)
	@.venv/bin/lint-imports
	@HYPOTHESIS_PROFILE=fast $(PY) -m pytest -q -n auto -m "not kafka" $(FAST) || [ $$? -eq 5 ]

format: setup ## let ruff format and mend what it can
	@$(PY) -m ruff format $(CODE)
	@$(PY) -m ruff check --fix $(CODE)

bench: setup ## the figures, as ratios taken in one run
	@$(PY) -m deploy.dev.broker fetch
	@$(PY) -m bench $(ARGS)

chaos: setup ## kills, freezes and outages at every step, judged from outside (RUNS=20, SEED=…, ARGS="--only TEXT", ARGS=--quick)
	@$(PY) -m deploy.dev.broker fetch
	@$(PY) -m tests.chaos --runs $(or $(RUNS),1) $(ARGS)

canary: setup ## personal data in every field, through every channel and failure: none may be found where none belongs
	@$(PY) -m deploy.dev.broker fetch
	@$(PY) -m pytest -q tests/kafka/test_canary.py tests/kafka/test_forget.py tests/kafka/test_retention.py $(ARGS)

mutants: setup ## faults planted in a copy of the code, each of which some test must notice; minutes
	@nice $(PY) -m tests.mutants $(ARGS)

hostile: setup ## malformed events in both framings, N of them: all answered, memory flat (N=1000000 takes long)
	@HOSTILE_EVENTS=$(or $(N),100000) $(PY) -m pytest -q -s --timeout=0 tests/agents/test_hostile.py $(ARGS)

sbom: setup ## what this is made of, as CycloneDX in build/sbom.json, from the lock files alone
	@$(PY) -m deploy.dev.sbom --out build/sbom.json

lock: setup ## write the lock files anew after a change of pyproject.toml (UPGRADE=-U for new versions)
	@$(PY) -m deploy.dev.lock $(UPGRADE)

clean: ## remove the environment and the caches, never the data
	rm -rf .venv .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find $(CODE) -name __pycache__ -type d -prune -exec rm -rf {} +
