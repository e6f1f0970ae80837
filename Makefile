# every target but help works in .venv, which is created on first use; PIP_* variables and pip.conf are honoured
PYTHON ?= python3
BIN := .venv/bin
MINIMUM := $(shell sed -n 's/^python_requires = >=//p' setup.cfg)
CORES := $(shell nproc 2>/dev/null || getconf _NPROCESSORS_ONLN)

# pip reads the constraints from more folders than this one (isolated builds)
ifdef PIP_CONSTRAINT
export PIP_CONSTRAINT := $(foreach file,$(PIP_CONSTRAINT),$(if $(findstring ://,$(file)),$(file),$(abspath $(file))))
endif

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help demo test test-slow reliability quality style bench docs audit

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-10s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: .venv/.installed-demo ## train a small model of every station and compare them; the last line names the report
	OMP_NUM_THREADS=$${OMP_NUM_THREADS:-1} $(BIN)/python recipes/lineage.py --output_dir runs/lineage --overwrite_output_dir

test: .venv/.installed-test ## run the tests
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -rs

test-slow: .venv/.installed-test ## run the tests that take longer
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -rs -m slow

reliability: .venv/.installed-test ## run the tests of what is promised to users, and print these promises as a table
	$(BIN)/python -m pytest -n auto --maxprocesses 4 --dist worksteal -rs -m reliability

quality: .venv/.installed-dev ## check style and types, change nothing
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	@! grep -rn --include='*.py' --include='*.ipynb' 'allow_pickle' hf_lineage recipes benchmarks docs

style: .venv/.installed-dev ## correct the style
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

bench: .venv/.installed-test ## run every script of benchmarks/
	@for script in $(sort $(wildcard benchmarks/*.py)); do \
		echo "== $$script"; \
		OMP_NUM_THREADS=$${OMP_NUM_THREADS:-$(CORES)} $(BIN)/python $$script || exit 1; \
	done

docs: .venv/.installed-docs ## build the pages of docs/ in site/, without network; fails on a broken link
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build

# packages that it lists with a reason to skip them were not asked about
audit: .venv/.installed-test ## ask the vulnerability service about the installed packages; needs network
	$(PYTHON) -m venv .venv/audit
	.venv/audit/bin/python -m pip install pip-audit
	.venv/audit/bin/pip-audit --path .venv/lib/python*/site-packages --skip-editable

.venv/.installed-%: setup.cfg pyproject.toml .venv/.created
	$(BIN)/python -m pip install --editable '.[$*]'
	@touch $@

# --clear: a folder left by an interrupted attempt has no pip
.venv/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < tuple(map(int, "$(MINIMUM)".split("."))))' || { \
		echo "hf_lineage needs Python >= $(MINIMUM), as transformers does; $(PYTHON) is: $$($(PYTHON) --version 2>&1)"; \
		echo "name another one: make PYTHON=python3.12 $(MAKECMDGOALS)"; \
		exit 1; \
	}
	$(PYTHON) -m venv --clear .venv
	@touch $@
