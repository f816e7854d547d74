# Three commands do everything, set-up included: `make demo`, `make check` (daily), and `make test` (all).
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO_SCALE ?= 0.3
# Two processes for tests, however many cores there are: many tests have two workers of their own.
PARALLEL := -n 2 --dist loadfile --no-loadscope-reorder
FUZZ_SECONDS ?= 10
FUZZ_TARGETS := $(patsubst fuzz/fuzz_%.cpp,%,$(wildcard fuzz/fuzz_*.cpp))
FUZZ_CXX ?= $(shell fuzz/compiler $(CXX))
DATA := .cache/demo
# What is written for other systems, too.
PORTABLE := $(wildcard mmflow/mapping/*.py mmflow/mapping/system/*.py) $(filter-out %/regions.py,$(wildcard mmflow/arrays/*.py)) mmflow/sinks/commit/atomic.py mmflow/sinks/commit/lock.py mmflow/storage/os_errors.py
LINUX := %/linux.py %/mounts.py %/pagemap.py

LINTERS := ruff format types types-darwin types-win32 imports

.PHONY: demo check test audit nightly over-disk simulate crash-states mutants lint $(LINTERS:%=lint-%) sanitize sanitized fuzz fuzzers fuzz-readers bench wheel sdist smoke docs clean

demo: $(VENV)/.demo
	@test -f $(DATA)/lineitem.csv || (echo "making $(DATA)/lineitem.csv (TPC-H, scale $(DEMO_SCALE))" && \
	  $(BIN)/tpchgen-cli csv -s $(DEMO_SCALE) --tables=lineitem --output-dir=$(DATA))
	$(BIN)/mmflow inspect $(DATA)/lineitem.csv
	$(BIN)/mmflow run jobs/pricing_summary.py --source $(DATA)/lineitem.csv --output $(DATA)/summary --if-exists replace
	$(BIN)/mmflow sql "SELECT * FROM '$(DATA)/summary'" --format table

check: lint
	$(BIN)/python -m pytest $(PARALLEL) -m "unit and not slow and not nightly"

BESIDE := nice -n 19 $(MAKE) --no-print-directory
# Linters run beside the tests, which wait for processes a good part of their time, and say at once what they find.
test: $(VENV)/.test .cache/azurite
	@($(BESIDE) lint LINT_JOBS=1 > .cache/lint.log 2>&1 || { cat .cache/lint.log; exit 1; }) & linters=$$!; \
	$(BIN)/python -m pytest $(PARALLEL) -r fER --durations 60 --durations-min 4; tests=$$?; \
	wait $$linters || { tail -n 40 .cache/lint.log; exit 1; }; exit $$tests

# Azure's blob store for tests, where there is npm: without it, those tests are skipped.
.cache/azurite:
	@mkdir -p .cache
	@! command -v npm > /dev/null || timeout 180 npm install --prefix $@ --silent --fetch-retries 1 --no-audit --no-fund --ignore-scripts azurite@3.37.0 \
	  || (rm -rf $@ && echo "Azurite can't be installed: tests of Azure are skipped")

# Known vulnerabilities of the packages that CI installs. Many mirrors of PyPI know of none: only where those of an old package are found does it mean
# something that others have none.
AUDITED ?= constraints.txt
AUDIT := .cache/pip-audit
AUDIT_OPTIONS ?=
PIP_AUDIT := $(AUDIT)/bin/pip-audit --no-deps --disable-pip --progress-spinner off $(AUDIT_OPTIONS)
audit: $(VENV)/bin/python
	@test -x $(AUDIT)/bin/pip-audit || { $(BIN)/python -m venv $(AUDIT) && $(AUDIT)/bin/python -m pip install -q pip-audit==2.10.1; } || true
	@echo urllib3==1.26.4 > $(AUDIT)/known.txt
	@if $(PIP_AUDIT) --requirement $(AUDIT)/known.txt 2>&1 | grep -qE 'PYSEC-2021-108|CVE-2021-33503|GHSA-q2q7-5pp4-w6pg'; \
	then $(PIP_AUDIT) --strict --requirement $(AUDITED); \
	else echo "known vulnerabilities were not looked up: those of urllib3 1.26.4 can't be found from here"; fi

# Long searches: the tests marked `nightly`, with Hypothesis at 2,000 examples; suites over a disk that fails.
nightly: $(VENV)/.test
	HYPOTHESIS_PROFILE=nightly $(BIN)/python -m pytest -m nightly --timeout 3600 -o faulthandler_timeout=7500
	@$(MAKE) --no-print-directory docs over-disk audit

# Suites over the disk of tests/disk, each over its own (docs/reliability.md); then with short reads and writes, and with slow listings.
OVER_DISK := arrays rows mapping blocks runs sinks remote
over-disk: $(VENV)/.test
	@failed=; over() { echo "over a disk: $$*"; $(BIN)/python -m tests.disk.over -rs "$$@" || failed="$$failed; $$*"; }; \
	for suite in $(OVER_DISK); do over tests/$$suite; done; \
	for suite in sinks remote; do over --short 1000 tests/$$suite; over --slow 0.001 tests/$$suite; done; \
	test -z "$$failed" || { echo "failed over the disk$$failed"; exit 1; }

# Histories of the simulated world, from the seed FIRST on (docs/reliability.md).
SEEDS ?= 10000
FIRST ?= 0
simulate: $(VENV)/.test
	$(BIN)/python -m tests.simulation.simulate $(SEEDS) $(FIRST)

# All states after a crash of the machine of each protocol (docs/reliability.md).
crash-states: $(VENV)/.test
	$(BIN)/python -m tests.simulation.crashes

# Small changes of modules that must not lose a row, each of which a test must notice: MUTANTS of each module, always the same
# ones; MUTANTS= tries all (docs/reliability.md).
MUTANTS ?= 60
mutants: $(VENV)/.test
	$(BIN)/python -m pip install -q -c constraints.txt --group mutation
	$(BIN)/python -m tests.mutation.mutants $(MUTANTS)

LINT_JOBS ?= 2
lint: $(VENV)/.test
	@$(MAKE) --no-print-directory -j $(LINT_JOBS) --output-sync=target $(LINTERS:%=lint-%)

lint-ruff:
	$(BIN)/ruff check .
lint-format:
	$(BIN)/ruff format --check .
lint-types:
	$(BIN)/mypy
lint-types-darwin:
	$(BIN)/mypy --follow-imports silent --cache-dir .mypy_cache/darwin --platform darwin $(filter-out $(LINUX) %/windows.py,$(PORTABLE))
lint-types-win32:
	$(BIN)/mypy --follow-imports silent --cache-dir .mypy_cache/win32 --platform win32 $(filter-out $(LINUX) %/unix.py %/macos.py,$(PORTABLE))
lint-imports:
	$(BIN)/lint-imports

# The kernels' tests with every address and every overflow checked.
sanitized: $(VENV)/.test
	$(BIN)/python -m pip install -q --no-deps --no-build-isolation --upgrade --target build/sanitized -C cmake.define.MMFLOW_SANITIZE=ON -C cmake.define.CMAKE_CXX_COMPILER=$(CXX) \
	  -C build-dir=build/sanitized-objects .

sanitize: sanitized
	@# Exceptions go through libasan only if libstdc++ is there before it, although the module has its own.
	ASAN_OPTIONS=detect_leaks=0 LD_PRELOAD="$$($(CXX) -print-file-name=libasan.so) $$($(CXX) -print-file-name=libstdc++.so.6)" \
	  SANITIZED=build/sanitized PYTHONPATH=fuzz $(BIN)/python -m pytest -p sanitized_kernels -p no:cacheprovider $(PARALLEL) tests/kernels tests/worker/test_worker_partition.py

# Each fuzz target for FUZZ_SECONDS, two at a time.
fuzzers: $(VENV)/.test
	@mkdir -p build
	$(BIN)/cmake -S fuzz -B build/fuzz -DCMAKE_BUILD_TYPE=None -DCMAKE_CXX_COMPILER=$(FUZZ_CXX) > build/fuzz-configured.log || (cat build/fuzz-configured.log && exit 1)
	$(BIN)/cmake --build build/fuzz -j 2 > build/fuzz-built.log || (cat build/fuzz-built.log && exit 1)

fuzz: fuzzers
	$(BIN)/python fuzz/make_corpus.py build/corpus
	@printf '%s\n' $(FUZZ_TARGETS) | xargs -P 2 -I TARGET fuzz/run TARGET $(FUZZ_SECONDS)

# Whole readers over damaged files (docs/reliability.md), each target for SECONDS or INPUTS, two at a time.
SECONDS ?= 10
INPUTS ?=
fuzz-readers: $(VENV)/.test
	@$(BIN)/python -m fuzz.readers.run --list | SEED=$(SEED) INPUTS=$(INPUTS) xargs -P 2 -n 8 $(BIN)/python -m fuzz.readers.run $(SECONDS)

bench: $(VENV)/.bench
	$(BIN)/python benchmarks/startup.py
	$(BIN)/python benchmarks/single_node.py
	$(BIN)/python benchmarks/page_cache.py
	$(BIN)/python benchmarks/mapping.py
	$(BIN)/python benchmarks/random_access.py
	$(BIN)/python benchmarks/kernels.py
	$(BIN)/python benchmarks/lock.py
	$(BIN)/python benchmarks/clusters.py
	$(BIN)/python benchmarks/driver_overhead.py
	$(BIN)/python benchmarks/runs.py
	$(BIN)/python benchmarks/arrays.py

# Distributions for this Python, in dist/ (docs/releasing.md). `smoke` installs the wheel into an empty environment and runs queries.
wheel: $(VENV)/.test
	@rm -f dist/*.whl
	@$(BIN)/python release/make_wheel.py

sdist: $(VENV)/.test
	@rm -f dist/*.tar.gz
	@$(BIN)/python -m build -q --sdist --no-isolation -o dist . > /dev/null
	@$(BIN)/twine check --strict dist/*.tar.gz

smoke: wheel
	@$(BIN)/python release/smoke.py dist/*.whl

# The documentation site, in build/docs: without warnings, and with links that lead somewhere. Sphinx has an environment of its own, since
# it wants another docutils than twine. What is built once is built again only where it changed.
DOCS := .cache/docs
docs: $(VENV)/.test $(DOCS)/.installed
	$(DOCS)/bin/python -m sphinx -q -W --keep-going -j 1 -d build/docs-pages -b html docs build/docs
	$(DOCS)/bin/python docs/site/check_links.py build/docs
	@echo "the site is build/docs/index.html"

$(DOCS)/.installed: docs/site/requirements.txt | $(VENV)/bin/python
	@$(BIN)/python -m venv $(DOCS)
	@$(DOCS)/bin/python -m pip install -q --no-deps -r $<
	@touch $@

# A stamp says what was installed last, so that nothing is installed twice.
$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  (echo "mmflow needs Python 3.11 or newer; say which: make PYTHON=python3.12" && exit 1)
	@$(PYTHON) -m venv $(VENV) || (echo "can't make a virtual environment: apt-get install python3-venv" && exit 1)
	@$(BIN)/python -m pip install -q --upgrade pip

$(VENV)/.%: pyproject.toml constraints.txt CMakeLists.txt $(wildcard mmflow/kernels/*.* mmflow/kernels/*/*.*) | $(VENV)/bin/python
	@# Where nanobind lies in one place, objects of the last build are used again; an isolated build compiles all.
	$(BIN)/python -m pip install -q -c constraints.txt --group build
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e '.[$*]'
	@touch $@

clean:
	rm -rf $(VENV) build dist .cache .mypy_cache .ruff_cache .pytest_cache .hypothesis
