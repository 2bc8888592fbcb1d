# Sets itself up: every target below that needs the virtual environment makes it first.
# Needs Python >= 3.11 with pip and venv, nothing else; only `make lock` needs uv.

VENV ?= .venv
# The first interpreter that is new enough; python3 itself where it is.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.14; do \
  $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && exit; done)
# cpu, cuda12, cuda13 or tpu: what the environment was last set up with, else cpu.
EXTRA ?= $(or $(patsubst $(VENV)/.ready-%,%,$(wildcard $(VENV)/.ready-*)),cpu)

READY := $(VENV)/.ready-$(EXTRA)
RUN := $(VENV)/bin/python -m
PYTEST_ARGS ?= -n 2 --dist worksteal
# --quick: a trial run.
DEMO_ARGS ?=
# SLOW=1 adds what takes 2.5 seconds and more, makes whole runs by the dozen or tries a whole program;
# MARKS=versions leaves what depends on the versions of the dependencies.
MARKS ?= $(if $(SLOW),,not slow)
# Most of a test is compilation: what is compiled once is taken from here in every later run.
TEST := JAX_COMPILATION_CACHE_DIR=$(CURDIR)/.jax_cache JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS=0 \
  JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES=-1 \
  $(RUN) pytest $(PYTEST_ARGS)

# What pip left uncompiled is compiled at its first import, and must be kept: many tests are processes.
unexport PYTHONDONTWRITEBYTECODE

# An interpreter asked for by name replaces an environment of another version.
ifneq ($(origin PYTHON),file)
ifneq ($(shell $(or $(PYTHON),false) -V 2>&1 || :),$(shell $(VENV)/bin/python -V 2>&1 || :))
$(shell rm -f $(READY))
endif
endif

.PHONY: help setup weights demo test test-all lint format types docs api lock release clean

help:  ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 10
	@echo "Set up for an accelerator: make setup EXTRA=cuda12 (or cuda13, tpu)."
	@echo "Choose the interpreter:    make setup PYTHON=python3.12"

setup: $(READY)  ## Make .venv from the lock (EXTRA=cuda12|cuda13|tpu, PYTHON=python3.12)

$(READY): locks/$(EXTRA).txt pyproject.toml
	@$(or $(PYTHON),false) -c 'import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "metahpo needs Python >= 3.11 with pip and venv; $(or $(PYTHON),nothing on PATH) is not that." \
	    "Say where one is: make setup PYTHON=/path/to/python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(RUN) pip install --quiet --no-compile --require-hashes --only-binary :all: -r $<
	$(RUN) pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

weights: $(READY)  ## Meta-train the rules that the package ships (half an hour)
	$(RUN) experiments.pretrained_rules --out experiments/results/pretrained_rules
	cp experiments/results/pretrained_rules/arrays.npz metahpo/learned_optimizers/pretrained.npz

demo: $(READY)  ## Tune the digits tasks with every method, side by side
	$(RUN) metahpo compare digits $(DEMO_ARGS)

test: $(READY)  ## Run the tests that are not slow
	$(TEST) -m "$(MARKS)"

test-all:  ## Run all tests
	$(MAKE) test SLOW=1

lint: $(READY)  ## Check format and style
	$(RUN) ruff format --check
	$(RUN) ruff check

format: $(READY)  ## Format the code and mend what can be mended
	$(RUN) ruff check --fix
	$(RUN) ruff format

types: $(READY)  ## Check the types
	$(RUN) mypy

api: $(READY)  ## Write docs/api.md from the docstrings
	$(VENV)/bin/python docs/make_api.py

docs: $(READY)  ## Build the site into build/docs: the pages, and the docstrings as the reference
	$(RUN) pip install --quiet --require-hashes --only-binary :all: -r locks/docs.txt
	$(RUN) sphinx -q -b html docs build/docs
	@echo "The site is in build/docs/index.html"

# One universal lock: every Python >= 3.11, each with the newest versions it can have. An accelerator's
# lock is locks/cpu.txt and what comes on top, so the versions are the same on every machine.
# locks/floors.txt has the oldest versions: make test EXTRA=floors VENV=.venv-floors PYTHON=python3.11
UV ?= uv
COMPILE := $(UV) pip compile --quiet --python-version 3.11 --generate-hashes --only-binary :all: \
  --annotation-style line --no-emit-index-url --no-emit-find-links \
  --custom-compile-command "make lock" pyproject.toml --extra dev
LOCK := $(COMPILE) --upgrade --universal --fork-strategy requires-python
FLOORS := $(COMPILE) --upgrade --resolution lowest-direct

lock:  ## Write locks/*.txt anew with the newest versions (needs uv)
	$(LOCK) --output-file locks/cpu.txt
	for extra in cuda12 cuda13 tpu docs; do \
	  $(LOCK) --extra $$extra --constraints locks/cpu.txt --output-file locks/$$extra.txt >/dev/null \
	    $$(sed -n 's/^\([a-z0-9-]*\)==.*/--no-emit-package \1/p' locks/cpu.txt | sort -u) && \
	  sed -i.old -e '2a-r cpu.txt' -e '/^# The following packages were excluded/,$$d' locks/$$extra.txt && \
	  rm locks/$$extra.txt.old || exit; \
	done
	$(FLOORS) --output-file locks/floors.txt

release: $(READY)  ## Build, test the wheel and tag the version in pyproject.toml
	.ci/release

clean:  ## Remove the environment, the caches and what runs left behind
	rm -rf $(VENV) build dist results .jax_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
