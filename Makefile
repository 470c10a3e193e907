# Two commands: `make demo` and `make test`. Both need Python 3.11 or newer and nothing else.
PYTHON ?= python3
BIN := .venv/bin
DEMO := results/runs/demo

# Python compiles what it imports at the first use; pip would compile every file of torch, which takes a minute.
INSTALL := $(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e
unexport PYTHONDONTWRITEBYTECODE

.PHONY: demo test check coverage lowest fuzz faults lint site bench costs launches grid-times long-stream large-data engine-overhead statistics reference regressions compare docs gallery clean

demo: .venv/installed
	$(BIN)/lethe run digits -s finetune -s er -s der++ -s ewc -s lwf -s joint --scenario class --seeds 5 --stale rerun --out $(DEMO) >/dev/null
	$(BIN)/lethe report $(DEMO)

test: .venv/installed-test lint
	$(BIN)/python -m pytest -n auto --dist worksteal -p no:benchmark

# What to run after every edit: all but the slow tests.
check: .venv/installed-test lint
	$(BIN)/python -m pytest -n auto --dist worksteal -p no:benchmark -m "not slow"

# The lowest supported versions of all dependencies but torch: the tests that are not slow, without those that compare
# files made with the versions of constraints.txt.
lowest:
	$(PYTHON) -m venv build/lowest
	build/lowest/bin/pip install --quiet --no-compile --disable-pip-version-check -c constraints-lowest.txt $$(grep ^torch== constraints.txt) -e '.[test]'
	build/lowest/bin/python -m pytest -n auto -p no:benchmark -o filterwarnings=default -m "not slow and not pinned"

# Damages at random every kind of file that Lethe reads: only UserError may be raised.
fuzz: .venv/installed-test
	$(BIN)/python -m tests.fuzz --minutes 10

# Injects faults into runs and their files, a quarter of an hour alone on two cores; what docs/reliability.md shows.
faults: .venv/installed-test
	$(BIN)/python -m tests.faults --fuzz 2 --write

# All tests, and the lines of the four packages that none of them runs.
coverage: .venv/installed-test
	$(BIN)/python -m pytest -n auto --dist worksteal -p no:benchmark --cov --cov-report term

lint: .venv/installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/installed-test
	$(BIN)/python -m pytest tests/perf/bench_steps.py tests/perf/bench_texts.py --benchmark-only --benchmark-disable-gc -q -s -W ignore::pytest_benchmark.logger.PytestBenchmarkWarning --benchmark-columns=min,median,rounds
	$(BIN)/python -m tests.many_cells $$(mktemp -d)/run
	$(BIN)/python -m tests.perf.grid_times $$(mktemp -d)/grid-times.json 6
	$(BIN)/python -m tests.perf.engine_overhead $$(mktemp -d)/engine-overhead.json 50 2

# A grid as lanes against its settings one by one, five minutes of two cores: the record that docs/guides/grids.md shows.
grid-times: .venv/installed-test
	$(BIN)/python -m tests.perf.grid_times results/reference/grid-times.json 20

# A stream of 1,000 tasks, half a minute: the record that docs/guides/long-streams.md shows.
long-stream: .venv/installed-test
	$(BIN)/python -m tests.perf.long_stream results/reference/long-stream.json

# Short cells on Dask, on this machine and by joblib alone: the record that docs/clusters.md shows.
engine-overhead: .venv/installed-test
	$(BIN)/python -m tests.perf.engine_overhead results/reference/engine-overhead.json 250 4

# 10 million rows from a mapped file and from memory, ten minutes: the record that docs/guides/long-streams.md shows.
large-data: .venv/installed-test
	$(BIN)/python -m tests.perf.large_data results/reference/large-data.json

# What a step of each strategy costs beside finetune's: the record that docs/costs.md shows.
costs: .venv/installed-test
	mkdir -p results/runs
	$(BIN)/python -m pytest tests/perf/bench_steps.py -k strategies_against_finetune --benchmark-only --benchmark-disable-gc -q -s -W ignore::pytest_benchmark.logger.PytestBenchmarkWarning --timeout=0 --benchmark-columns=rounds --benchmark-json=results/runs/step-costs.json
	$(BIN)/python -m bench.checks.step_costs results/runs/step-costs.json results/reference/step-costs.json

# How many kernels a step of each strategy submits to a GPU, counted without one: docs/costs.md shows it.
launches: .venv/installed-test
	$(BIN)/python -m bench.checks.launches results/reference/launches.json

# Descriptive statistics of the data sets that are available.
statistics: .venv/installed
	$(BIN)/python -m suites.statistics

# The committed records, packed; those of texts, of MNIST and of CIFAR need real data (see README), the very last takes hours.
# $(call remake,NAME,COMMAND): an earlier pack is unpacked, the command runs what is missing, all is packed again.
# Where code changed since, `make reference STALE=rerun` runs its cells again, `STALE=keep` leaves them.
define remake
	test -d results/reference/$(1) || test ! -f results/reference/$(1).lethe.gz || $(BIN)/lethe unpack results/reference/$(1).lethe.gz
	$(BIN)/lethe $(2) $(if $(and $(STALE),$(filter run,$(firstword $(2)))),--stale $(STALE))
	$(BIN)/lethe pack results/reference/$(1)
	rm -r results/reference/$(1)
endef

reference: .venv/installed
	$(call remake,digits,run results/reference/digits.toml)
	$(call remake,digits-all,run results/reference/digits-all.toml)
	$(call remake,digits-tuned,run results/reference/digits-tuned.toml)
	$(call remake,split-mnist-tuned,run results/reference/split-mnist-tuned.toml)
	$(call remake,gallery,run results/reference/gallery.toml)
	$(call remake,gallery-grids,run results/reference/gallery-grids.toml)
	$(call remake,digits-classes,run digits -s finetune -s er -s ewc --scenario class --seeds 3 --out results/reference/digits-classes)
	$(call remake,adaptive-digits,run results/reference/adaptive-digits.toml)
	$(call remake,gallery-methods,run results/reference/gallery-methods.toml)
	$(call remake,gallery-suites,run results/reference/gallery-suites.toml)
	$(call remake,texts,run results/reference/texts.toml)
	$(call remake,writing,run results/reference/writing.toml)
	$(call remake,augmented-replay,run results/reference/augmented-replay.toml)
	$(call remake,texts-tuned,run results/reference/texts-tuned.toml)
	$(call remake,texts-prompts,run results/reference/texts-prompts.toml)
	$(call remake,vision,run results/reference/vision.toml)
	$(call remake,adaptive-split-mnist,run results/reference/adaptive-split-mnist.toml)
	$(call remake,protocols,run results/reference/protocols.toml)
	$(call remake,three-types-split-mnist,verify three-types-split-mnist --out results/reference/three-types-split-mnist; test $$? -le 1)

# The records that docs/regressions.md shows: planted faults and slowness that are found, and false alarms.
regressions: .venv/installed-test
	$(BIN)/python -m tests.planted_faults --write
	$(BIN)/python -m tests.false_alarms --write
	$(BIN)/python -m tests.planted_slowness results/reference/planted-slowness.json
	$(BIN)/python -m tests.planted_bisections results/reference/planted-bisections.json

# The results of this code against the committed ones: digits, every strategy, three seeds.
SCENARIOS ?= class
compare: .venv/installed
	$(BIN)/lethe run digits -s all --scenario $(SCENARIOS) --seeds 3 --stale rerun --out results/runs/compare
	$(BIN)/lethe compare digits-all results/runs/compare

# The site of the documents, in build/site; a broken link is an error.
site: .venv/installed
	$(BIN)/pip install --quiet --no-compile --disable-pip-version-check -c constraints.txt -e '.[docs]'
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet

# Tables and figures of the documents, from the committed records.
docs: .venv/installed
	$(BIN)/python -m bench.report.documents README.md docs/*.md docs/*/*.md
	$(BIN)/python -m bench.cli.commands_page docs/commands.md

# Every figure of the gallery, from the committed records.
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
