# Needs GNU make and Python 3.11 or later, nothing else. `make help` lists the targets.

VENV := .venv
BIN := $(VENV)/bin
PLUGINS := $(sort $(patsubst %/pyproject.toml,%,$(wildcard plugins/*/pyproject.toml)))
PROJECTS := pyproject.toml $(PLUGINS:=/pyproject.toml)
PACKAGES := nexus_core plugins/platform/nexus $(wildcard $(join $(PLUGINS:=/nexus_),$(notdir $(PLUGINS))))
EDITABLE := $(foreach project,. $(PLUGINS),-e $(project))
# More than the cores there usually are: tests wait for processes and clocks half of the time.
WORKERS := 3
QUICKSTART := docs/examples/quickstart
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

# A name on the PATH proves little (pyenv leaves stubs that only complain), so each candidate is run.
SUITABLE := import ensurepip, sys, venv; sys.exit(sys.version_info < (3, 11))
PYTHON ?= $(shell for each in python3.13 python3.12 python3.11 python3; do \
	"$$each" -c '$(SUITABLE)' >/dev/null 2>&1 && { echo "$$each"; break; }; done)

.DEFAULT_GOAL := help
.PHONY: help install run test check lint generate docs bench chaos pins clean tools

help:
	@echo 'make install   the core and every plugin, with pinned versions, in $(VENV)'
	@echo 'make run       install, then serve the example on 127.0.0.1 (ports 8000, 8001 and 3001)'
	@echo 'make test      every test; TESTS=plugins/api/tests for some of them'
	@echo 'make check     lint, the generated files and the unit tests; about two minutes'
	@echo 'make lint      ruff, mypy and the import rules'
	@echo 'make generate  writes what follows from other files, such as lists of the plugins; CI compares'
	@echo 'make docs      the documentation as a site, in site/; it needs no network'
	@echo 'make bench     the benchmarks, about ten minutes; QUICK=1 for about two'
	@echo 'make chaos     durable runs while processes are killed, about five minutes; CHAOS_OPTIONS="--store sqlite"'
	@echo 'make pins      write what is installed to constraints.txt'
	@echo 'make clean     remove $(VENV) and everything else that was made here'
	@echo 'PYTHON=... chooses the interpreter; it is used when $(VENV) is made.'

# Set up

install: $(VENV)/installed
tools: $(VENV)/tools

$(BIN)/python:
	@test -n '$(PYTHON)' || { echo 'Nexus needs Python 3.11 or later with its venv and ensurepip modules, and found' \
		'none: install it (Debian: apt install python3 python3-venv), or name it with PYTHON=/path/to/python.' >&2; exit 1; }
	@'$(PYTHON)' -c '$(SUITABLE)' || { echo 'PYTHON=$(PYTHON) does not run, is older than Python 3.11, or lacks venv' \
		'and ensurepip.' >&2; exit 1; }
	'$(PYTHON)' -m venv $(VENV)

$(VENV)/installed: $(PROJECTS) constraints.txt Makefile | $(BIN)/python
	$(PIP_INSTALL) hatchling editables
	$(PIP_INSTALL) --no-build-isolation $(EDITABLE)
	@touch $@

$(VENV)/tools: $(VENV)/quickstart tests/requirements.txt
	$(PIP_INSTALL) --requirement tests/requirements.txt
	@touch $@

# Its requirements name Nexus too, which is installed from here.
$(VENV)/quickstart: $(VENV)/installed $(QUICKSTART)/requirements.txt
	grep -v '^nexus-hub' $(QUICKSTART)/requirements.txt | $(PIP_INSTALL) --requirement /dev/stdin
	@touch $@

# Use

run: $(VENV)/quickstart
	@printf '%s\n' \
		"REST          http://127.0.0.1:$${NEXUS_API_PORT:-8000}/docs" \
		"              curl -s http://127.0.0.1:$${NEXUS_API_PORT:-8000}/api/workflows/country_summary/execute \\" \
		"                -H 'Content-Type: application/json' -d '{\"country\": \"CH\"}'" \
		"command line  $(BIN)/nexus --connect http://127.0.0.1:$${NEXUS_CLI_PORT:-8001} execute country_summary --country CH" \
		"MCP           http://127.0.0.1:$${NEXUS_MCP_PORT:-3001}/mcp; clients are configured with"
	@$(BIN)/nexus --app $(QUICKSTART)/app.py:nexus mcp-config
	@echo 'Ctrl-C ends it.'
	@$(BIN)/python $(QUICKSTART)/app.py

# Tests of one file share what they set up, so each file stays with one worker.
test: $(VENV)/tools
	$(BIN)/python -m pytest --numprocesses $(WORKERS) --dist loadfile $(TEST_OPTIONS) $(TESTS)

# What starts no process and opens no port: see tests/services/unit_tests.py.
check: lint
	$(BIN)/python tests/generated/generate.py --check
	$(BIN)/python -m pytest --unit --numprocesses $(WORKERS) --dist loadfile --quiet $(TEST_OPTIONS) $(TESTS)

lint: $(VENV)/tools
	$(BIN)/ruff check --output-format concise .
	$(BIN)/ruff format --check .
	MYPYPATH=$(subst $() ,:,$(PLUGINS)) $(BIN)/mypy $(PACKAGES)
	$(BIN)/lint-imports --no-cache

generate: $(VENV)/tools
	$(BIN)/python tests/generated/generate.py

# What is wrong with a page, such as a link that leads nowhere, is an error.
docs: $(VENV)/tools
	$(BIN)/python -m sphinx --quiet --fail-on-warning --keep-going --fresh-env \
		--builder html --conf-dir docs/site --doctree-dir .cache/doctrees . site
	@echo 'Open site/index.html.'

bench: $(VENV)/tools
	$(BIN)/python tests/benchmarks/run.py $(if $(QUICK),--quick) $(BENCH_OPTIONS)

chaos: $(VENV)/tools
	$(BIN)/python tests/services/chaos.py $(CHAOS_OPTIONS)

pins: $(VENV)/tools
	$(BIN)/python -m pip freeze --exclude-editable > constraints.txt

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis bench-results dist build site
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
