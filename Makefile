# Everything from an empty clone: needs Python 3.11 or later and a network.
#   make demo     install, train a small network, show what it does
#   make test     install with the tools, check the style, run the tests
PYTHON ?= python3
WORKERS ?= 2

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check
INSTALLED := $(VENV)/.installed
INSTALLED_DEV := $(VENV)/.installed-dev

.PHONY: help demo test check slow docs format constraints clean

help:
	@echo "make demo         train a small network and show what it does"
	@echo "make test         check the style, then run the tests"
	@echo "make check        format, lint, types, who imports whom"
	@echo "make slow         the tests that take longer"
	@echo "make docs         write the generated parts of the documents"
	@echo "make format       lay out the code and mend what the linter can mend"
	@echo "make constraints  write constraints.txt from what is installed"
	@echo "make clean        remove what the tools leave behind, the installation included"

demo: $(INSTALLED)
	$(BIN)/unrolled demo

test: check
	$(BIN)/python -m pytest -n $(WORKERS)

check: $(INSTALLED_DEV)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

slow: $(INSTALLED_DEV)
	$(BIN)/python -m pytest -m slow || test $$? -eq 5  # 5: no test has the mark

docs: $(INSTALLED_DEV)
	$(BIN)/python docs/generate.py

format: $(INSTALLED_DEV)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

constraints: $(INSTALLED_DEV)
	$(PIP) install -c constraints.txt -e '.[dev,bench]'
	echo "# The exact versions that are tested, of everything that is installed. 'make constraints' writes this file." > $@.txt
	$(PIP) freeze --all --exclude-editable --exclude pip | sed 's/+.*//' | tr 'A-Z_' 'a-z-' | LC_ALL=C sort >> $@.txt

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis *.egg-info build dist

$(VENV)/.made:
	@command -v "$(PYTHON)" > /dev/null || { echo "There is no $(PYTHON). Name a Python: make PYTHON=python3.12 …" >&2; exit 1; }
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo "unrolled needs Python 3.11 or later; $(PYTHON) is $$("$(PYTHON)" --version 2>&1)." \
			"Name another: make PYTHON=python3.12 …" >&2; exit 1; }
	"$(PYTHON)" -m venv $(VENV)
	@touch $@

# A file that says so stands for each installation: it is repeated only when what it installs has changed.
$(INSTALLED): $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e .
	@touch $@

$(INSTALLED_DEV): $(VENV)/.made pyproject.toml constraints.txt
	$(PIP) install -c constraints.txt -e '.[dev]'
	@touch $(INSTALLED) $@
