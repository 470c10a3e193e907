# Two commands: `make demo` and `make test`. Both need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO := results/runs/demo

# Python compiles what it imports at the first use; pip would compile every file of torch, which takes a minute.
INSTALL := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test lint bench costs statistics reference docs gallery clean

demo: .venv/installed
	$(BIN)/lethe run digits -s finetune -s er -s der++ -s ewc -s lwf -s joint --scenario class --seeds 5 --out $(DEMO)
	$(BIN)/lethe report $(DEMO)

test: .venv/installed-test lint
	$(BIN)/python -m pytest -n 2 --dist worksteal -p no:benchmark

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-test
	$(BIN)/python -m pytest tests/perf/bench_steps.py tests/perf/bench_report.py tests/perf/bench_texts.py --benchmark-only --benchmark-disable-gc -q -s -W ignore::pytest_benchmark.logger.PytestBenchmarkWarning --benchmark-columns=min,median,rounds

# What a step of each strategy costs beside finetune's: the record that docs/costs.md shows.
costs: .venv/installed-test
	mkdir -p results/runs
	$(BIN)/python -m pytest tests/perf/bench_steps.py -k strategies_against_finetune --benchmark-only --benchmark-disable-gc -q -s -W ignore::pytest_benchmark.logger.PytestBenchmarkWarning --timeout=0 --benchmark-columns=rounds --benchmark-json=results/runs/step-costs.json
	$(BIN)/python -m bench.checks.step_costs results/runs/step-costs.json results/reference/step-costs.json

# Descriptive statistics of the data sets that can be seen from here.
statistics: .venv/installed
	$(BIN)/python -m suites.statistics

# The committed records; those of texts and of MNIST need real data (see README), the very last takes hours.
reference: .venv/installed
	$(BIN)/lethe run results/reference/digits.toml
	$(BIN)/lethe run results/reference/digits-all.toml
	$(BIN)/lethe run results/reference/gallery.toml
	$(BIN)/lethe run digits -s finetune -s er -s ewc --scenario class --seeds 3 --out results/reference/digits-classes
	$(BIN)/lethe run results/reference/adaptive-digits.toml
	$(BIN)/lethe run results/reference/gallery-suites.toml
	$(BIN)/lethe run results/reference/texts.toml
	$(BIN)/lethe run results/reference/writing.toml
	$(BIN)/lethe run results/reference/texts-tuned.toml
	$(BIN)/lethe run results/reference/texts-prompts.toml
	$(BIN)/lethe run results/reference/adaptive-split-mnist.toml
	$(BIN)/lethe verify three-types-split-mnist


# Tables and figures of the documents, from the committed records.
docs: .venv/installed
	$(BIN)/python -m bench.report.documents README.md docs/*.md docs/*/*.md

# Every figure there is, from the committed records.
gallery: .venv/installed
	$(BIN)/python -m bench.report.documents docs/gallery.md

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Lethe needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv

.venv/installed: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) .
	touch $@

.venv/installed-test: .venv/bin/python pyproject.toml constraints.txt
	$(INSTALL) '.[test]'
	touch $@ .venv/installed

clean:
	rm -rf .venv build *.egg-info results/runs
