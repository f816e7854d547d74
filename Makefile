# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_SCALE ?= 0.3
DATA := .cache/demo

.PHONY: demo test lint bench clean

demo: $(VENV)/.demo
	@test -f $(DATA)/lineitem.csv || (echo "making $(DATA)/lineitem.csv (TPC-H, scale $(DEMO_SCALE))" && \
	  $(BIN)/tpchgen-cli csv -s $(DEMO_SCALE) --tables=lineitem --output-dir=$(DATA))
	$(BIN)/mmflow inspect $(DATA)/lineitem.csv
	$(BIN)/mmflow run jobs/pricing_summary.py --source $(DATA)/lineitem.csv --output $(DATA)/summary --if-exists replace
	$(BIN)/mmflow sql "SELECT * FROM '$(DATA)/summary'" --format table

test: lint
	$(BIN)/python -m pytest

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/single_node.py

# A stamp says what was installed last, so that nothing is installed twice.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  (echo "mmflow needs Python 3.11 or newer; say which: make PYTHON=python3.12" && exit 1)
	@$(PYTHON) -m venv $(VENV) || (echo "can't make a virtual environment: apt-get install python3-venv" && exit 1)
	@$(BIN)/python -m pip install -q --upgrade pip

$(VENV)/.%: pyproject.toml constraints.txt CMakeLists.txt $(wildcard mmflow/kernels/*) | $(VENV)/bin/python
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
