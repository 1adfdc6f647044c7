# make demo   install what taut needs and audit the bundled example
# make test   install what the tests need and run the fast suite
# make test-integration   the wheel, the sdist and a browser (skipped, and said so, without Chromium)
# make test-oldest   the training tests against the oldest TRL and friends that we declare
# make lint   style, types and import contracts
# make validate   the slow tests and the long miss-rate validation; writes docs/validation.md
# make docs   the documentation site, into site/
# make bench  speed and width against peers and physical ceilings

VENV := .venv
BIN := $(VENV)/bin
# A file of tests stays in one process, where its models and logs are made once; one thread each, as
# threads of several processes wait for each other.
WORKERS := -n logical --maxprocesses 4 --dist loadfile
TRAINING_TESTS := tests/test_clipped_kl.py tests/test_recorder.py tests/test_preflight.py
# It connects to a cluster of its own, which a process can do once.
CLUSTER_PAGE := tests/test_examples.py::test_examples_with_models_or_a_cluster_run[ray.md]
PYTHON ?= $(shell for p in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test test-integration test-oldest lint validate docs bench clean

demo: $(VENV)/.core
	@$(BIN)/taut demo

test: $(VENV)/.test
	@$(BIN)/taut demo > /dev/null  # compiles once what each process would compile
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest $(WORKERS)

test-integration: $(VENV)/.test
	$(BIN)/python -m pytest -m integration -rs --deselect '$(CLUSTER_PAGE)'
	$(BIN)/python -m pytest -m integration -rs '$(CLUSTER_PAGE)'

test-oldest: $(VENV)-oldest/.test
	$(VENV)-oldest/bin/python -m pytest -m 'not integration' $(TRAINING_TESTS)

lint: $(VENV)/.test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

validate: $(VENV)/.test
	$(BIN)/python -m pytest -m slow
	$(BIN)/python -m validation.theory
	$(BIN)/python -m validation.miss_rates --output docs/validation.md
	$(BIN)/python -m validation.layouts
	$(BIN)/python -m validation.transfer
	$(BIN)/python -m validation.selection
	$(BIN)/python -m validation.budget
	$(BIN)/python -m validation.lab --output docs/lab.md
	$(BIN)/python -m validation.threshold --seeds 20
	$(BIN)/python -m validation.monitor
	$(BIN)/python -m validation.rectifier
	$(BIN)/python -m validation.best_of
	$(BIN)/python -m validation.compare --cache .cache/compare.jsonl
	$(BIN)/python -m validation.slices --cache .cache/slices.jsonl

docs: $(VENV)/.test
	$(BIN)/python docs/api.py
	$(BIN)/python docs/llms.py
	$(BIN)/zensical build --clean --strict

bench: $(VENV)/.test
	for script in $$(grep -l __main__ benchmarks/*.py); do $(BIN)/python $$script || exit 1; done

clean:
	rm -rf $(VENV) $(VENV)-oldest site .cache

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "taut needs Python 3.11 or newer; install it or say make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.core: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable .
	@touch $@

$(VENV)/.test: pyproject.toml constraints.txt | $(BIN)/python
	$(PIP) install --quiet --constraint constraints.txt --editable '.[test,train,report,ray,remote,docs]'
	@touch $@ $(VENV)/.core

$(VENV)-oldest/.test: pyproject.toml constraints-oldest.txt
	@test -n "$(PYTHON)" || { echo "taut needs Python 3.11 or newer; install it or say make PYTHON=..."; exit 1; }
	$(PYTHON) -m venv $(VENV)-oldest
	$(VENV)-oldest/bin/python -m pip --disable-pip-version-check install --quiet \
		--constraint constraints-oldest.txt --editable '.[test,train]'
	@touch $@
