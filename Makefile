# Everything a developer does here. Needs Python 3.11 or newer with pip, and make; the rest is set up on first use.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.ready
LOCK := packaging/requirements
STATE := $(CURDIR)/.state
BINARY ?=
WORKERS ?= 2
ARGS ?=

export PIP_DISABLE_PIP_VERSION_CHECK = 1
MAKEFLAGS += --no-print-directory
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help venv native serve test slow check binary deb release e2e bench golden lock clean

help: ## list the targets
	@sed -n 's/^\([a-z0-9]*\):.*## /  make \1 \t/p' $(MAKEFILE_LIST) | expand -t 16

venv: native ## build .venv from the lock file, and the native code

# The stamp holds the lock that was installed, so that switching branches back and forth costs nothing.
$(INSTALLED): $(LOCK)/dev.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("error: needs Python 3.11 or newer, this is %s; try make PYTHON=python3.11" % sys.version.split()[0])'
	@$(PYTHON) -m pip --version >/dev/null 2>&1 || { echo "error: $(PYTHON) has no pip" >&2; exit 1; }
	@cmp -s $(LOCK)/dev.txt $@ || { \
	  echo "setting up $(VENV) (once; takes a minute)" && \
	  $(PYTHON) -m venv --without-pip $(VENV) && \
	  $(PYTHON) -m pip --python $(BIN)/python install --quiet --require-hashes -r $(LOCK)/dev.txt && \
	  $(BIN)/python -m pip install --quiet --no-deps --no-build-isolation -e . ; }
	@cp $(LOCK)/dev.txt $@

# Compiles what is out of date, and says so where there is no compiler.
native: $(INSTALLED)
	@$(BIN)/python build/native.py

# State, sockets and temporary files stay in .state, whatever the environment says.
serve: native ## run the appliance here: make serve ARGS="model.gguf --port 9000"
	@mkdir -p $(STATE)/tmp
	@exec env -u STATE_DIRECTORY -u RUNTIME_DIRECTORY -u XDG_RUNTIME_DIR TMPDIR=$(STATE)/tmp \
	  $(BIN)/dynamo-appliance serve --state-dir $(STATE) $(ARGS)

test: native ## run the tests but those marked slow
	@$(BIN)/python -m pytest -q -m "not slow" -n $(WORKERS) --dist loadfile $(ARGS)

slow: native ## run the slow ones; those of whole appliances belong to e2e
	@$(BIN)/python -m pytest -q -m slow --ignore tests/e2e -n $(WORKERS) --dist loadfile $(ARGS)

check: native ## format, lint, types, import contracts, architecture
	@$(BIN)/ruff format --check --quiet . || { echo "error: run $(BIN)/ruff format" >&2; exit 1; }
	@$(BIN)/ruff check --quiet .
	@$(BIN)/mypy --no-error-summary
	@$(BIN)/python -m pytest -q tests/test_architecture.py tests/test_docs.py

binary: native ## build out/dist/dynamo-appliance
	@$(BIN)/pyinstaller --noconfirm --log-level ERROR --workpath out/work --distpath out/dist build/dynamo-appliance.spec
	@build/smoke.sh out/dist/dynamo-appliance

PACKAGED = $(abspath $(or $(BINARY),out/dist/dynamo-appliance))

deb: native ## build a Debian package of the executable (or of BINARY=)
	@$(BIN)/python packaging/deb.py --executable $(PACKAGED) --output out/release

release: native ## executable, packages, install script and SHA256SUMS in out/release
	@$(BIN)/python packaging/release.py --executable $(PACKAGED) --output out/release

e2e: native ## end-to-end tests, on the executable with BINARY=out/dist/dynamo-appliance
	@$(BIN)/python -m pytest -q tests/e2e $(if $(BINARY),--binary $(abspath $(BINARY))) $(ARGS)

bench: native ## measure the request path, and the router modes (3 minutes each)
	@$(BIN)/python -m tests.bench.frontend $(if $(BINARY),--binary $(abspath $(BINARY))) $(ARGS)
	@$(BIN)/python -m tests.bench.prefix_routing $(if $(BINARY),--binary $(abspath $(BINARY)))

golden: native ## write the expected outputs of the golden tests anew
	@$(BIN)/python -m pytest -q tests/golden --regenerate $(ARGS)

PIP_COMPILE = out/lock/bin/pip-compile --quiet --generate-hashes --strip-extras --allow-unsafe --no-header --no-annotate \
  --no-emit-index-url --no-emit-trusted-host --no-emit-find-links

lock: ## resolve the dependencies anew (ARGS=--upgrade for newer ones)
	@test -x out/lock/bin/pip-compile || { $(PYTHON) -m venv out/lock && out/lock/bin/pip install --quiet pip-tools; }
	@$(PIP_COMPILE) $(ARGS) --output-file $(LOCK)/runtime.txt pyproject.toml
	@$(PIP_COMPILE) $(ARGS) --extra dev --build-deps-for editable --constraint $(LOCK)/runtime.txt --output-file $(LOCK)/dev.txt pyproject.toml

clean: ## remove what was built, except .venv and .state
	@rm -rf out appliance/*/native/*.so .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	@find appliance tests build -name __pycache__ -type d -prune -exec rm -rf {} +
