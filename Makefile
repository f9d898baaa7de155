# Two commands: `make book` (read it) and `make test` (check it). Everything else serves these two.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
# LOCK=no installs the newest versions that pyproject.toml allows instead of the lock (the weekly run does).
LOCK   ?= yes
PORT   ?= 8000

.DEFAULT_GOAL := help
.PHONY: help env book serve lab test lint unit pages bench lock clean

help:  ## show what there is
	@grep -hE '^[a-z]+:.*##' Makefile | sed 's/:.*##/ —/'

env: $(VENV)/installed-$(LOCK)  ## make the environment in .venv

$(VENV)/installed-$(LOCK): requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v <= (3, 13) else "Python 3.11, 3.12 or 3.13 is needed, and %d.%d is what PYTHON=$(PYTHON) gives: call make PYTHON=python3.13" % v)'
	@echo "== environment: installing into $(VENV) (about 2 GB, once)"
	@$(PYTHON) -m venv $(VENV)
	@if [ "$(LOCK)" = yes ]; then $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q -r requirements.txt; \
	  else $(BIN)/python -m pip install --disable-pip-version-check --progress-bar off -q --upgrade --upgrade-strategy eager -e '.[dev]'; fi
	@$(BIN)/python -m pip check
	@rm -f $(VENV)/installed-*
	@touch $@

book: env  ## execute what changed, build the pages, say where they are
	@$(BIN)/python -m mechbook.build

serve: book  ## the same, then show the book on localhost
	@echo "== http://localhost:$(PORT)/ (Ctrl-C ends it)"
	@$(BIN)/python -m http.server $(PORT) --bind 127.0.0.1 --directory build/html

lab: env  ## the chapters, live, in JupyterLab
	@$(BIN)/jupyter lab book

test: env lint unit pages  ## every check there is

lint: env
	@echo "== lint and types"
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

unit: env
	@echo "== tests of the code"
	@$(BIN)/python -m pytest --ignore=tests/browser

pages: env book
	@echo "== tests of the pages, in a browser"
	@$(BIN)/python -m pytest tests/browser -n auto --dist loadscope

bench: env  ## how fast, as ratios against a plain baseline in the same run
	@$(BIN)/python -m pytest tests/benchmarks/bench_*.py -s --benchmark-disable-gc

lock:  ## renew requirements.txt from pyproject.toml (needs uv)
	@uv pip compile --universal --python-version 3.11 --extra dev --no-annotate --quiet \
	  --custom-compile-command "make lock" pyproject.toml -o requirements.txt
	@# torch's own platform packages come with whichever torch is installed; the book itself installs in editable form
	@grep -vE '^(nvidia-|cuda-|triton)' requirements.txt > requirements.tmp && echo "-e ." >> requirements.tmp && mv requirements.tmp requirements.txt

clean:  ## remove what was built (not the environment)
	@rm -rf build _build
