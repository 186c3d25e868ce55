# Everything from a fresh clone: `make demo` to see it work, `make test` to run the whole suite.
# PYTHON=python3.12 chooses the interpreter, ARGS='…' goes to pytest, chat or demo.

PYTHON ?= python3
VENV := .venv
VERL := .venv-verl
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
CORE := $(VENV)/.core
DEV := $(VENV)/.dev
MODEL := qwen2.5-coder-0.5b-instruct
CODE := src tests $(wildcard examples)

.DEFAULT_GOAL := help
.PHONY: help demo chat test check clean model verl-smoke

help: ## list what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "make %-10s %s\n", $$1, $$2}'

demo: $(CORE) ## set up, fetch the model and replay a dialogue
	@$(BIN)/personalagent demo $(ARGS)

chat: $(CORE) ## set up, fetch the model and open the chat
	@$(BIN)/personalagent chat $(ARGS)

test: $(DEV) model ## set up, fetch the model and run every test
	@$(BIN)/python -m pytest $(ARGS)

check: $(DEV) ## lint, formatting and types
	@$(BIN)/ruff check $(CODE)
	@$(BIN)/ruff format --check $(CODE)
	@$(BIN)/mypy

verl-smoke: $(VERL)/.verl ## set up veRL in an environment of its own and train two steps on one worker, two, two nodes, and a LoRA
	@$(VERL)/bin/python -m pytest tests/verl $(ARGS)

clean: ## remove the environment and the caches; models and profiles stay
	rm -rf $(VENV) $(VERL) .pytest_cache .mypy_cache .ruff_cache .hypothesis dist
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

model: $(DEV)
	@$(BIN)/personalagent model pull $(MODEL)

$(BIN)/python:
	@command -v $(PYTHON) >/dev/null || { echo "expected Python 3.11 or later as $(PYTHON), got none; install it, or give PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "expected Python 3.11 or later, got $$($(PYTHON) -V 2>&1); install it, or give PYTHON=…" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || { echo "expected the venv module of $(PYTHON), got an error; install it (Debian: apt install python3-venv)" >&2; rm -rf $(VENV); exit 1; }

# A stamp is written last, so that an installation that was broken off is done again.
$(CORE): pyproject.toml | $(BIN)/python
	@echo "Installing PersonalAgent into $(VENV) ..."
	@$(PIP) install -qq -e .
	@touch $@

$(DEV): pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing PersonalAgent with its tests and training packages into $(VENV) (about 1 GB) ..."
	@$(PIP) install -qq -e '.[dev,train,bench,pseudonyms,server,postgres,otel]' -c constraints.txt
	@touch $(CORE) $@

$(VERL)/.verl: pyproject.toml constraints-verl.txt | $(BIN)/python
	@echo "Installing PersonalAgent with veRL into $(VERL) (about 2 GB) ..."
	@$(BIN)/python -m venv $(VERL)
	@$(VERL)/bin/python -m pip --disable-pip-version-check install -qq -e '.[verl]' gguf hypothesis pytest pytest-asyncio -c constraints-verl.txt
	@touch $@
