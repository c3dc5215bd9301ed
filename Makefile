# Tasklatch: `make` alone lists what there is. Needs python3 (3.11 or later), make and git; the rest goes into .venv.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.installed
SCANNER := $(VENV)/checkov
SCANNER_READY := $(SCANNER)/.installed
# sam and the layer's Makefile take their Python from the PATH; sam reports usage unless told not to
RUN := PATH="$(CURDIR)/$(BIN):$$PATH" VIRTUAL_ENV="$(CURDIR)/$(VENV)" SAM_CLI_TELEMETRY=0
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-strip-extras \
	--custom-compile-command "make lock"

ONCE ?=
CLIENT ?= worker
FUNCTION ?= report_status
EVENT ?=
TRACE ?=
SPEED ?=
CHAOS ?=
SEED ?=
EXPECT ?=
EXECUTION ?=
STACK ?=
FROM ?=
PYTHON ?=
ARCH ?=
PARAMETERS ?=
FILE ?=
ASK ?=
CHANGE_TENANTS ?=
SAM_ARGS ?=
PYTEST_ARGS ?=

.PHONY: help
help: ## this list
	@echo "Tasklatch: a serverless task-status service. Targets:"
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-9s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))

.PHONY: run
run: $(READY) ## local cloud, demonstration, then serve until Ctrl-C (ONCE=1: end after the demonstration)
	@exec env $(RUN) $(BIN)/python -m local run $(if $(ONCE),--once)

.PHONY: up
up: $(READY) ## start the local cloud in the background, deploy into it
	@$(RUN) $(BIN)/python -m local up

.PHONY: down
down: $(READY) ## stop the local cloud; its data stays for the next `make up`
	@$(RUN) $(BIN)/python -m local down

.PHONY: clean
clean: ## stop the local cloud and forget its data
	@if [ -e $(READY) ]; then $(RUN) $(BIN)/python -m local down; fi
	@rm -rf .local .aws-sam

.PHONY: token
token: $(READY) ## print an access token of the local cloud (CLIENT=worker, reader or operator)
	@$(RUN) $(BIN)/python -m local token $(CLIENT)

.PHONY: invoke
invoke: $(READY) ## run one function on one event in Lambda's own protocol (FUNCTION=report_status EVENT=events/x.json)
	@$(RUN) $(BIN)/python -m local invoke $(FUNCTION) $(EVENT)

.PHONY: replay
replay: $(READY) ## replay a recorded run against the local cloud (TRACE= SPEED= CHAOS= SEED= EXPECT=)
	@$(RUN) $(BIN)/python -m local replay $(if $(TRACE),--trace "$(TRACE)") $(if $(SPEED),--speed "$(SPEED)") \
		$(if $(CHAOS),--chaos "$(CHAOS)") $(if $(SEED),--seed "$(SEED)") \
		$(if $(EXPECT),--expect "$(EXPECT)")

.PHONY: worker
worker: $(READY) ## run three sample workers against the local cloud until Ctrl-C
	@exec env $(RUN) $(BIN)/python -m local worker

.PHONY: watch
watch: $(READY) ## show the status changes of an execution's tasks (EXECUTION=)
	@$(RUN) $(BIN)/python -m local watch "$(EXECUTION)"

.PHONY: redrive
redrive: $(READY) ## redrive the dead-letter queues (STACK=name: of a stack on AWS)
	@$(RUN) $(BIN)/python -m local redrive $(if $(STACK),--stack "$(STACK)")

.PHONY: smoke
smoke: $(READY) ## check from outside that a stack keeps its promises (STACK=name: a stack on AWS; else the local cloud)
	@$(RUN) $(BIN)/python -m local smoke $(if $(STACK),--stack "$(STACK)")

.PHONY: restore
restore: $(READY) ## copy what the ledger has lost from a restored copy of its table (FROM=table STACK=name)
	@$(RUN) $(BIN)/python -m local restore $(if $(STACK),--stack "$(STACK)") "$(FROM)"

.PHONY: test
test: $(READY) ## every test (PYTEST_ARGS="-k name" for some)
	@exec env $(RUN) $(BIN)/python -m tests $(PYTEST_ARGS)

.PHONY: unit
unit: $(READY) ## the tests that need nothing but Python, in well under a minute
	@$(RUN) $(BIN)/python -m pytest -q -n auto --maxprocesses 4 tests/unit $(PYTEST_ARGS)

# Without the tests against the local cloud: their functions run in the emulator's processes
.PHONY: coverage
coverage: $(READY) ## which lines the tests in one process reach; a table, and HTML in .local/coverage-html
	@mkdir -p .local
	@$(RUN) $(BIN)/python -m pytest -q -n auto --maxprocesses 4 --cov --cov-report=term --cov-report=html:.local/coverage-html \
		tests/unit tests/integration $(PYTEST_ARGS)

.PHONY: prove
prove: $(READY) ## the promises under every order, fault and kill, for longer than `make test` does it
	@outcome=0; for part in "-n auto --maxprocesses 4 tests/model_checking tests/fault_injection" "tests/e2e/test_killing.py"; do \
		TASKLATCH_PROVE=1 $(RUN) $(BIN)/python -m pytest $$part $(PYTEST_ARGS) || outcome=$$?; \
	done; exit $$outcome

.PHONY: bench
bench: $(READY) ## speed and cost, as ratios in one run; a table, and JSON in .local/bench.json
	@$(RUN) PYTHONPATH=layers/tasklatch $(BIN)/python -m tests.benchmarks

.PHONY: check
check: $(READY) $(SCANNER_READY) ## formatting, lint, types, the template's rules and a security scan of it
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@for handler in functions/*/handler.py; do $(BIN)/mypy --no-error-summary $$handler; done
	@$(RUN) $(BIN)/python -m pytest -q tests/template

.PHONY: format
format: $(READY) ## format the code and mend what lint can mend
	@$(BIN)/ruff check --fix --exit-zero --quiet .
	@$(BIN)/ruff format .

.PHONY: describe
describe: $(READY) ## write the API description from the code
	@$(RUN) PYTHONPATH=layers/tasklatch $(BIN)/python -c 'from local.describe import write_description; write_description()'

# What a parameter was before, it stays: in the stack, in samconfig.toml. PYTHON and ARCH are the template's by other names
CHOSEN = $(if $(STACK),--stack "$(STACK)") $(if $(FILE),--file "$(FILE)") \
	--parameters '$(if $(PYTHON),PythonVersion=python$(PYTHON)) $(if $(ARCH),Architecture=$(ARCH)) $(PARAMETERS)'
HOW = $(CHOSEN) $(if $(CHANGE_TENANTS),--change-tenants) --sam-arguments '$(SAM_ARGS)'

.PHONY: preflight
preflight: $(READY) ## what would stop a deployment into your AWS account, or its first load
	@$(RUN) $(BIN)/python -m local.aws preflight $(CHOSEN)

.PHONY: deploy
deploy: $(READY) ## build and deploy into your AWS account, asking once (PARAMETERS="A=x B=y" FILE= STACK= PYTHON= ARCH= ASK=1)
	@$(RUN) $(BIN)/python -m local.aws deploy $(HOW) $(if $(ASK),--again)

.PHONY: deploy-ci
deploy-ci: $(READY) ## the same without questions: parameters from FILE=, PARAMETERS= and variables PARAMETER_<Name>
	@$(RUN) $(BIN)/python -m local.aws deploy --no-questions $(HOW)

.PHONY: lock
lock: $(VENV)/.bootstrapped ## take the newest fitting versions into the lock files
	@$(LOCK) --upgrade requirements/bootstrap.in -o requirements/bootstrap.txt
	@$(LOCK) --upgrade requirements/dev.in -o requirements/dev.txt
	@$(LOCK) --upgrade requirements/checkov.in -o requirements/checkov.txt
	@$(LOCK) --upgrade -c requirements/dev.txt layers/tasklatch/requirements.in -o layers/tasklatch/requirements.txt

# The installer is itself pinned by hash; pip, being slow on a long lock, installs only that.
$(VENV)/.bootstrapped: requirements/bootstrap.txt
	@python=; for candidate in python3 python3.14 python3.13 python3.12 python3.11; do \
		if $$candidate -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			python=$$candidate; break; fi; done; \
	if [ -z "$$python" ]; then echo "Python 3.11 or later is needed and was not found on the PATH." >&2; exit 1; fi; \
	echo "Making $(VENV) with $$($$python --version)"; \
	$$python -m venv --clear $(VENV) || { \
		echo "This Python cannot make virtual environments (Debian and Ubuntu: apt install python3-venv)." >&2; exit 1; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements/bootstrap.txt
	@touch $@

# Installs into the environment $(1) what the locks $(2) pin; a second time with the machine's own certificates, as some
# networks put theirs in front of everything
define INSTALL
began=$$SECONDS; sync="pip sync --quiet --python $(1)/bin/python --require-hashes $(2)"; \
$(BIN)/uv $$sync 2>/dev/null || $(BIN)/uv --system-certs $$sync; echo "Installed in $$((SECONDS - began)) s"
endef

$(READY): $(VENV)/.bootstrapped requirements/dev.txt
	@echo "Installing the pinned tools into $(VENV)"
	@$(call INSTALL,$(VENV),requirements/bootstrap.txt requirements/dev.txt)
	@touch $@

# In an environment of its own: it pins an AWS SDK that is not the functions'
$(SCANNER_READY): $(VENV)/.bootstrapped requirements/checkov.txt
	@echo "Installing the security scanner into $(SCANNER)"
	@$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(SCANNER)
	@$(call INSTALL,$(SCANNER),requirements/checkov.txt)
	@touch $@
