# Everything runs in one virtual environment, made by `make setup` (about 7 GB: torch brings its GPU libraries).

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

# Tests run in parallel processes; each gets one thread so that they do not fight for the cores.
ONE_THREAD := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1
WORKERS ?= auto
# A process that has nothing left takes tests from the other: the slow ones lie together in one folder.
PARALLEL := -n $(WORKERS) --dist worksteal

.PHONY: setup demo test test-all check docs format bench bench-accuracy bench-heights bench-scaling bench-setup clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Python 3.11 or newer is needed. Name one: make setup PYTHON=python3.11"; exit 2; }
	@echo "Making $(VENV): about 7 GB are fetched the first time, which takes some minutes."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(READY)

demo: setup
	$(BIN)/maskwright demo --out demo

check: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(ONE_THREAD) $(BIN)/python -m pytest tests/architecture

test: check
	$(ONE_THREAD) $(BIN)/python -m pytest $(PARALLEL) -m "not slow" --ignore tests/architecture

test-all: check
	$(ONE_THREAD) $(BIN)/python -m pytest $(PARALLEL) --ignore tests/architecture

# No network is needed: the theme brings its own fonts and scripts.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build
	@echo "Open site/index.html"

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The benchmarks run peers beside Maskwright; those live in an environment of their own on top of the first (0.3 GB).
BENCH := .venv-bench
bench-setup: $(BENCH)/.ready

$(BENCH)/.ready: $(READY) benchmarks/requirements.txt
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -c 'import site; path = site.getsitepackages()[0]; open(path + "/maskwright.pth", "w").write("\n".join(["$(CURDIR)/src", path.replace("$(BENCH)", "$(VENV)"), ""]))'
	$(BENCH)/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -r benchmarks/requirements.txt
	@touch $(BENCH)/.ready

# Under 40 minutes on 2 cores; writes benchmarks/table.md, which the page on speed shows.
bench: bench-setup
	$(BENCH)/bin/python benchmarks/table.py

# About three hours on 2 cores; what is finished is kept, and the same command goes on behind it.
bench-accuracy: bench-setup
	$(BENCH)/bin/python benchmarks/time_to_accuracy.py

# Figures of docs/explanation/heights.md: about an hour.
bench-heights: bench-setup
	$(BENCH)/bin/python benchmarks/heights.py

# Plots of cost against size in docs/images: minutes.
bench-scaling: bench-setup
	$(BENCH)/bin/python benchmarks/scaling.py

clean:
	rm -rf $(VENV) $(BENCH) demo outputs site .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
