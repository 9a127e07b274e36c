# make test sets up its own environment in .venv; nothing needs doing before.
PYTHON ?= python3
BIN := .venv/bin
WORKERS := 2
TEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n $(WORKERS) --dist loadfile

.DEFAULT_GOAL := help
.PHONY: help setup demo report test check coverage lint type perf build clean
help:  ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-9s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

.venv/done: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev,dicom]'
	touch .venv/done

setup: .venv/done  ## the environment in .venv

demo: .venv/done  ## probe, rank heads, refine, score and report on the embedded model
	$(BIN)/vgtool probe --model phantom-vlm --benchmark scenes --out .demo/scenes --offline
	$(BIN)/vgtool probe --model phantom-vlm --benchmark phantom --out .demo/phantom --offline
	$(BIN)/vgtool heads .demo/scenes -k 4 -o .demo/heads.json
	$(BIN)/vgtool refine --model phantom-vlm --benchmark phantom --heads .demo/heads.json --method vgrefine \
		--method random-keep --method oracle --method pai --method adaptvis --method no-image \
		--out .demo/refined --offline
	$(BIN)/vgtool score .demo/scenes .demo/phantom .demo/refined --by question_type
	$(BIN)/vgtool report .demo/scenes .demo/phantom .demo/refined --images --out .demo/report

report: .venv/done  ## figures and a page of the runs below runs/, else of the demo's
	$(BIN)/vgtool report --out report

test: .venv/done  ## the test suite
	$(TEST)

coverage: .venv/done  ## the test suite, and which lines it ran
	$(TEST) --cov --cov-report=term

perf: .venv/done  ## what it costs: attention and session, scoring, loading, report, build, processes, kills
	$(BIN)/python perf/attention.py
	$(BIN)/python perf/score.py
	$(BIN)/python perf/load.py
	$(BIN)/python perf/report.py
	$(BIN)/python perf/build.py
	$(BIN)/python perf/scale.py
	$(BIN)/python perf/kill.py

lint: .venv/done  ## ruff
	$(BIN)/ruff check vgtool tests perf

type: .venv/done  ## mypy
	$(BIN)/mypy vgtool

check: lint type test  ## what the gate runs

build: .venv/done  ## wheel and source archive in dist/
	$(BIN)/python -m build

clean:  ## remove the environment and caches
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache build dist
