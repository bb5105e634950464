# One shared environment, made from nothing and only when pyproject.toml changed.
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed-$(shell cksum < pyproject.toml | cut -d' ' -f1)

.PHONY: all demo test slow browser lint docs tutorials bench clean help

all: $(STAMP)    ## the environment in .venv, with everything in it; what `make` alone does

help:            ## this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed 's/:[^#]*##/\t/'

$(STAMP): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --editable ".[dev]"
	rm -f $(VENV)/.installed-*
	touch $@

demo: $(STAMP)   ## install, then decode a virtual brain and write demo/report.html
	$(BIN)/brainalign demo --out demo

test: $(STAMP)   ## all quick tests (under 10 minutes on 2 cores); real recordings: set BRAINALIGN_TEST_DATA
	$(BIN)/python -m pytest -q -n 2 --dist loadfile --durations=10

slow: $(STAMP)   ## the long tests
	$(BIN)/python -m pytest -q -m slow --durations=10

browser: $(STAMP) ## reports in headless Chromium (skipped where there is none)
	$(BIN)/python -m pytest -q -m browser

lint: $(STAMP)   ## style and types
	$(BIN)/ruff check src tests benchmarks docs/hooks
	$(BIN)/ruff format --check src tests benchmarks docs/hooks
	$(BIN)/mypy

docs: $(STAMP)   ## the documentation as pages in site/; a broken link or a warning is an error
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --clean

tutorials: $(STAMP) ## run every command of the tutorials and compare what it prints with the pages
	$(BIN)/python -m pytest -q -m tutorial -n 2 --durations=4

bench: $(STAMP)  ## time ours against straightforward implementations, as ratios
	for file in benchmarks/bench_*.py; do $(BIN)/python $$file || exit 1; done

clean:           ## remove what the targets made, but not the environment
	rm -rf demo runs site build dist .pytest_cache .mypy_cache .ruff_cache
