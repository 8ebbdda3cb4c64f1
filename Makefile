# Every target does its own set-up: a machine with python3.11 or newer, pip and make is enough.
# `make demo` trains on MNIST with four processes; `make test` runs the tests, the fast ones first, JOBS at a time: 11 minutes on
# two quiet cores from an empty clone, and 12 are the limit; `make test-all` runs those marked `slow`, too.
# `make test-fast PYTHON=python3.13` works in an environment of that Python's own, beside the others.

SHELL := /bin/bash
PORT ?= 8080
FUZZ ?= 60
JOBS ?= 2
# A test starts hundreds of programs: each would compile all of Umbel anew where the environment has this.
unexport PYTHONDONTWRITEBYTECODE
VERSION := -c 'import sys; print("%d.%d" % sys.version_info[:2])'

USUAL := $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV := .venv
ifdef PYTHON
ASKED := $(PYTHON)
override PYTHON := $(shell scripts/pythons $(ASKED))
ifndef PYTHON
$(error PYTHON=$(ASKED) is not here: name one of these: $(shell scripts/pythons))
endif
VENV := $(shell has=$$(.venv/bin/python $(VERSION) 2>/dev/null || $(USUAL) $(VERSION)); asked=$$($(PYTHON) $(VERSION)); \
	[ "$$asked" = "$$has" ] && echo .venv || echo .venvs/$$asked)
else
PYTHON := $(USUAL)
endif
PY := $(VENV)/bin/python
FRAMEWORKS := .venvs/frameworks

.PHONY: demo test test-all test-fast test-system test-frameworks test-slow test-tutorial check bench bench-simulation data more-data postgres proxies fuzz test-fuzz chaos soak load clean

demo: $(VENV)/demo data  ## a server and three MLX clients on real MNIST, three rounds
	PYTHON=$(CURDIR)/$(PY) PORT=$(PORT) bash examples/quickstart-mlx/run.sh

test: $(VENV)/dev data more-data postgres proxies test-fast test-system test-fuzz test-tutorial  ## what a change is tried with

test-all: test test-frameworks test-slow  ## everything

test-fast: $(VENV)/fast  ## seconds
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile -m "not system and not tutorial and not slow and not frameworks"

test-system: $(VENV)/dev  ## real processes, real sockets, SIGKILL
	$(PY) -m pytest -q -n $(JOBS) -m "system and not slow and not alone and not frameworks"
	$(PY) -m pytest -q -m "system and not slow and alone"

test-frameworks: $(FRAMEWORKS)/made  ## the adapters on the frameworks themselves, and trackers
	$(FRAMEWORKS)/bin/python -m pytest -q -n $(JOBS) -m frameworks tests/frameworks
	KERAS_BACKEND=jax $(FRAMEWORKS)/bin/python -m pytest -q tests/test_public_surface.py -k umbel.frameworks

test-slow: $(VENV)/dev $(VENV)/demo data more-data postgres proxies  ## Ray, every failpoint, the floods, statistics: half an hour
	$(PY) -m pytest -q -n $(JOBS) -m "slow and not alone and not frameworks"
	$(PY) -m pytest -q -m "slow and alone"

test-fuzz: $(VENV)/fuzz  ## each fuzzer, briefly
	$(PY) tests/fuzz/run.py --seconds 3

fuzz: $(VENV)/fuzz  ## everything that reads foreign bytes, a minute each (FUZZ=seconds), and the HTTP surface
	$(PY) tests/fuzz/run.py --seconds $(FUZZ)

test-tutorial: $(VENV)/dev $(VENV)/demo data  ## MLX and MXNet on real MNIST
	$(PY) -m pytest -q -n $(JOBS) -m "tutorial and not slow and not frameworks"

check: $(VENV)/dev  ## style, types, and who may import whom
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports --no-cache

bench: $(VENV)/dev  ## every figure as a ratio to a floor; FLWR=path/to/python adds flwr 1.41.0
	$(PY) bench/run.py $(if $(FLWR),--with-flwr $(FLWR))

bench-simulation: $(VENV)/dev  ## the same for simulations, with its page; FLWR needs flwr[simulation] and torch
	$(PY) bench/simulation.py --write docs/bench-simulation.md $(if $(FLWR),--with-flwr $(FLWR))

data: $(VENV)/base  ## MNIST into the local cache
	$(PY) scripts/fetch-data mnist

more-data: $(VENV)/base  ## the other data sets with names; the tests of one that cannot be had here are skipped, and say so
	-$(PY) scripts/fetch-data all

postgres:  ## a PostgreSQL server for the tests to start; where there can be none, its tests are skipped, and say so
	-scripts/postgres

proxies:  ## nginx and HAProxy for the tests to start; where they cannot be had, their tests are skipped, and say so
	-scripts/proxies

chaos: $(VENV)/dev postgres  ## SIGKILL at every failpoint, with every strategy, in SQLite and PostgreSQL; its table goes into the docs
	$(PY) tests/chaos/run.py --write docs/reliability.md

soak: $(VENV)/dev  ## 20,000 rounds with faults: memory, threads, open files and the database stay as they are
	$(PY) tests/load/measure.py soak --write docs/reliability.md

load: $(VENV)/dev  ## 1,000 connected clients, of whom 100 work
	$(PY) tests/load/measure.py load --write docs/reliability.md

clean:
	rm -rf $(VENV) .venvs .fuzz .pytest_cache .mypy_cache .ruff_cache .hypothesis

$(VENV)/base: pyproject.toml
	@test -n "$(PYTHON)" || { echo "make: Umbel needs Python 3.11 or newer, and there is none on PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(PY) -m pip install --quiet -e '.[datasets]'
	@touch $@

$(VENV)/demo: $(VENV)/base examples/quickstart-mlx/requirements.txt
	$(PY) -m pip install --quiet -e '.[datasets]' -r examples/quickstart-mlx/requirements.txt
	@touch $@

# The fast tests run on every Python: a library that is not built for one is left out there, and its tests are skipped, and
# say so. numba holds numpy back: beside the project's own environment the fast tests meet the newest numpy instead.
$(VENV)/fast: $(VENV)/base
	$(PY) -m pip install --quiet -e '.[datasets,security]' --group test
	$(call welcome,$(if $(filter .venv,$(VENV)),numba) matplotlib pandas psycopg[binary] polars scikit-learn)
	@touch $@

$(VENV)/dev: $(VENV)/fast
	$(PY) -m pip install --quiet --group check
	$(call welcome,torch==2.13.0 $(if $(filter Linux,$(shell uname)),xgboost-cpu))
	@touch $@

# What the project's own environment has, such as torch, is not installed twice: this one sees it, and pip counts it.
$(FRAMEWORKS)/made: pyproject.toml $(VENV)/dev
	$(PY) -m venv $(FRAMEWORKS)
	$(PY) -c 'import sysconfig; print("import site; site.addsitedir(%r)" % sysconfig.get_path("purelib"))' \
		> "$$($(FRAMEWORKS)/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/beside.pth"
	$(PY) -m pip --python $(FRAMEWORKS)/bin/python install -qq --group frameworks \
		|| $(PY) -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["dependency-groups"]["frameworks"], sep="\n")' \
		| while read -r need; do $(PY) -m pip --python $(FRAMEWORKS)/bin/python install -qq "$$need" \
		|| echo "make: $$need cannot be had for $$($(PY) -V) here: what needs it is not tested" >&2; done
	@touch $@

define welcome
$(PY) -m pip install --quiet $(1) || for need in $(1); do $(PY) -m pip install --quiet "$$need" \
	|| echo "make: $$need cannot be had for $$($(PY) -V) here: what needs it is not tested" >&2; done
endef

# atheris has wheels for some Pythons and machines; where one of the two cannot be had, run.py says what takes its place
$(VENV)/fuzz: $(VENV)/dev
	-$(PY) -m pip install --quiet --only-binary=:all: 'atheris>=2.3'
	-$(PY) -m pip install --quiet 'schemathesis>=4.0'
	@touch $@
