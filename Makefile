# make test sets up its own environment in .venv; nothing needs doing before.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: help setup test lint type clean
help:  ## what there is
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

.venv/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,dicom]'
	touch .venv/done

setup: .venv/done  ## the environment in .venv

test: .venv/done  ## the test suite
	$(BIN)/python -m pytest

lint: .venv/done  ## ruff
	$(BIN)/ruff check vgtool tests

type: .venv/done  ## mypy
	$(BIN)/mypy vgtool

clean:  ## remove the environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist
