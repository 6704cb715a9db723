# One command each: `make run` starts the product, `make test` tests it. Both need Python 3.11 or later and a
# package index; everything else is put into .venv, pinned by requirements.lock.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
ARGS ?=

.PHONY: help install run test check bench peers lock clean

help:
	@echo "make run      start MirrorNeuron and open it in the browser (ARGS=\"--port 8001\" passes options on)"
	@echo "make test     run all tests; says which services were found"
	@echo "make check    lint, types, import contracts, migrations in step with the models"
	@echo "make bench    measure the engine (ARGS as for \`mn bench\`; PEERS=1 measures DBOS and LangGraph in turn)"
	@echo "make soak     kill workers at random and count what is lost (ARGS=\"--kills 1000 --seed 1\")"
	@echo "make install  only prepare .venv with .venv/bin/mn"
	@echo "make lock     work out requirements.lock anew from pyproject.toml"
	@echo "make clean    remove what was built; data in .mirrorneuron/ stays"

# The stamp holds the hash of what was installed and where, so that an unchanged lock costs nothing and a moved
# folder is noticed. The product itself is linked, not built: no build tools needed.
install:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "MirrorNeuron needs Python 3.11 or later; name one with: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(BIN)/python -c '' 2>/dev/null || { rm -rf $(VENV); $(PYTHON) -m venv $(VENV); } || \
	  { echo "Python cannot make a virtual environment; on Debian: apt-get install python3-venv" >&2; exit 1; }
	@set -eu; want="$$( { cat requirements.lock Makefile; pwd; } | sha256sum)"; \
	if [ "$$want" != "$$(cat $(STAMP) 2>/dev/null || true)" ]; then \
	  echo "Installing into $(VENV) (once; about half a minute) …"; \
	  $(BIN)/python -m pip install -qq --disable-pip-version-check --require-hashes -r requirements.lock; \
	  site="$$($(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"; \
	  pwd > "$$site/mirrorneuron-source.pth"; \
	  printf '#!/bin/sh\nexec "%s" -P -m mirrorneuron.cli "$$@"\n' "$$(pwd)/$(BIN)/python" > $(BIN)/mn; \
	  chmod +x $(BIN)/mn; \
	  echo "$$want" > $(STAMP); \
	fi
	@$(BIN)/python -P mirrorneuron/assets.py

run: install
	@exec $(BIN)/mn up $(ARGS)

test: install
	@exec $(BIN)/python tests/everything.py $(ARGS)

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	MN_DATA="$$(mktemp -d)" $(BIN)/python manage.py makemigrations --check --dry-run

bench: install $(if $(PEERS),peers)
	@exec $(BIN)/mn bench $(if $(PEERS),--peers) $(ARGS)

# What others publish, for comparison only: it never enters .venv.
peers: install
	@set -eu; want="$$( { cat bench/requirements-peers.lock; pwd; } | sha256sum)"; \
	if [ "$$want" != "$$(cat .venv-peers/.installed 2>/dev/null || true)" ]; then \
	  rm -rf .venv-peers; $(PYTHON) -m venv .venv-peers; \
	  echo "Installing the peers into .venv-peers (once) …"; \
	  .venv-peers/bin/python -m pip install -qq --disable-pip-version-check --require-hashes \
	    -r bench/requirements-peers.lock; \
	  echo "$$want" > .venv-peers/.installed; \
	fi

LOCK := $(BIN)/uv pip compile --universal --python-version 3.11 --generate-hashes --no-emit-index-url \
  --no-emit-find-links --no-header

soak: install
	@exec $(BIN)/python -m tests.faults.soak $(ARGS)

lock: install
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(LOCK) pyproject.toml --group dev -o requirements.lock
	$(LOCK) --group pyproject.toml:peers -o bench/requirements-peers.lock

clean:
	rm -rf $(VENV) .venv-peers static/dist static/node_modules static/.build.lock static/root build test-artifacts *.egg-info
	rm -rf .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
