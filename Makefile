# Each target works as the first command after a clone.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/ready

.PHONY: setup page demo test slow check format docs peers clean

setup: $(READY) page

# What `inward serve` shows; nothing is done where it is built of these sources.
page: $(READY)
	$(BIN)/python web/build.py

# torch comes first and pinned: whatever asks for it later is then content with it.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "inward needs Python 3.11 or newer; make setup PYTHON=python3.12")'
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable '.[torchvision,timm,dev]'
	# Tests compare with it. It asks for a version of requests that nothing else can live with.
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps torchattacks==3.5.1
	touch $@

demo: setup
	$(BIN)/inward demo

# One thread a worker: two workers that each want every core are slower than one.
test: setup
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m "not slow" --numprocesses auto --maxprocesses 8

slow: setup
	$(BIN)/python -m pytest -m slow

check: setup
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# The documentation: site/index.html. The variable silences a notice of the theme.
docs: setup
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

# What the benchmarks compare with.
peers: setup
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --requirement benchmarks/requirements.txt

clean:
	rm -rf .venv .pytest_cache .ruff_cache .hypothesis build dist site web/node_modules src/inward/server/static
