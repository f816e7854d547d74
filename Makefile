# Two commands do everything, set-up included: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_SCALE ?= 0.3
FUZZ_SECONDS ?= 10
FUZZ_CXX ?= $(shell fuzz/compiler $(CXX))
DATA := .cache/demo
# What is written for other systems, too.
PORTABLE := $(wildcard mmflow/mapping/*.py) $(filter-out %/regions.py,$(wildcard mmflow/arrays/*.py)) mmflow/sinks/atomic.py mmflow/sinks/lock.py
LINUX := %/linux.py %/mounts.py %/pagemap.py

.PHONY: demo test nightly lint sanitize fuzz bench clean

demo: $(VENV)/.demo
	@test -f $(DATA)/lineitem.csv || (echo "making $(DATA)/lineitem.csv (TPC-H, scale $(DEMO_SCALE))" && \
	  $(BIN)/tpchgen-cli csv -s $(DEMO_SCALE) --tables=lineitem --output-dir=$(DATA))
	$(BIN)/mmflow inspect $(DATA)/lineitem.csv
	$(BIN)/mmflow run jobs/pricing_summary.py --source $(DATA)/lineitem.csv --output $(DATA)/summary --if-exists replace
	$(BIN)/mmflow sql "SELECT * FROM '$(DATA)/summary'" --format table

test: lint
	$(BIN)/python -m pytest

# Long searches: the tests marked `nightly`, with Hypothesis at 2,000 examples.
nightly: $(VENV)/.test
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -m nightly --timeout 3600

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/mypy --follow-imports silent --cache-dir .mypy_cache/darwin --platform darwin $(filter-out $(LINUX) %/windows.py,$(PORTABLE))
	$(BIN)/mypy --follow-imports silent --cache-dir .mypy_cache/win32 --platform win32 $(filter-out $(LINUX) %/unix.py %/macos.py,$(PORTABLE))
	$(BIN)/lint-imports

# The kernels' tests with every address and every overflow checked.
sanitize: $(VENV)/.test
	$(BIN)/python -m pip install -q --no-deps --upgrade --target build/sanitized -C cmake.define.MMFLOW_SANITIZE=ON -C cmake.define.CMAKE_CXX_COMPILER=$(CXX) \
	  -C build-dir=build/sanitized-objects .
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so)" \
	  $(BIN)/python fuzz/sanitized_tests.py build/sanitized tests/kernels

# Each fuzz target for FUZZ_SECONDS, from the seed corpus and what earlier runs found.
fuzz: $(VENV)/.test
	$(BIN)/cmake -S fuzz -B build/fuzz -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_COMPILER=$(FUZZ_CXX) > build/fuzz-configured.log || (cat build/fuzz-configured.log && exit 1)
	$(BIN)/cmake --build build/fuzz -j 2 > build/fuzz-built.log || (cat build/fuzz-built.log && exit 1)
	$(BIN)/python fuzz/make_corpus.py build/corpus
	@set -e; for target in csv ndjson lines records; do mkdir -p build/found/$$target; echo "fuzz $$target"; \
	  build/fuzz/fuzz_$$target -max_total_time=$(FUZZ_SECONDS) -max_len=8192 -verbosity=0 -print_final_stats=1 \
	    -artifact_prefix=build/$$target- build/found/$$target build/corpus/$$target > build/fuzz-$$target.log 2>&1 \
	    || (tail -n 60 build/fuzz-$$target.log; exit 1); grep -E "executed_units|^Done [0-9]+ runs" build/fuzz-$$target.log; done

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/single_node.py
	$(BIN)/python benchmarks/page_cache.py
	$(BIN)/python benchmarks/mapping.py
	$(BIN)/python benchmarks/random_access.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/clusters.py
	$(BIN)/python benchmarks/driver_overhead.py
	$(BIN)/python benchmarks/runs.py
	$(BIN)/python benchmarks/arrays.py

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
