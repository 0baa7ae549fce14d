# The two commands that everybody needs are `make up` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.run
SBOM ?= sbom.json
STAMP := $(VENV)/.installed
PYTEST := $(BIN)/python -m pytest
# hundreds of processes are started by tests: they should not compile all modules each
unexport PYTHONDONTWRITEBYTECODE
# whole files to a process each: they share servers; the long ones first (tests/conftest.py). More than
# two cores: three quarters of a test's time are waiting for what it has started
PARALLEL := -n 5 --dist loadfile --no-loadscope-reorder

.PHONY: up test check unit properties integration chaos browser coverage format docs proto lock bench bench-budget audit sbom clean help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 13

$(RUN): requirements-run.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "Hookstream needs Python 3.11 or later: make PYTHON=python3.12 …"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements-run.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(STAMP): $(RUN) requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	@touch $@

up: $(RUN) ## start everything here, in the foreground
	@exec $(BIN)/hookstream up

test: check ## lint, types, layers, generated code, then every test
	$(PYTEST) $(PARALLEL)

check: $(STAMP) ## lint, types, layers, generated code: no tests
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m hookstream.proto.generate --check
	$(BIN)/python docs/settings_table.py --check
	$(BIN)/python docs/providers_tables.py --check
	$(BIN)/python docs/roles_table.py --check
	$(BIN)/python -m tests.support.summary_table --check
	$(BIN)/python -m tests.support.privacy_corpus --check

# a tenth of what Hypothesis makes up: `make test` has all of it
unit: $(STAMP) ## tests without servers and processes, in seconds
	EXAMPLES_PERCENT=10 $(PYTEST) -n 2 --dist worksteal tests/unit

properties: $(STAMP) ## rules against what is made up for them, for longer than a unit test may take
	$(PYTEST) -n 2 --dist worksteal tests/properties

integration: $(STAMP) ## tests on real servers, and of what starts processes
	$(PYTEST) $(PARALLEL) tests/integration tests/isolation examples

chaos: $(STAMP) ## short runs of each kind of fault under load
	$(PYTEST) $(PARALLEL) tests/chaos

browser: $(STAMP) ## what browsers are told, and may do: the tests of that only
	$(PYTEST) -m browser tests/unit/web tests/integration/web tests/integration/identity

bench: $(STAMP) ## every benchmark, and its results file
	$(BIN)/hookstream bench --write

bench-budget: $(STAMP) ## where an event's CPU time goes, by part and stage
	$(BIN)/python -m bench.budget --write

coverage: $(STAMP) ## which lines tests of rules and on servers have run, also in their processes
	$(BIN)/python -m coverage erase
	$(BIN)/python -m coverage run -m pytest $(PARALLEL) tests/unit tests/properties tests/integration tests/isolation
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

format: $(STAMP) ## mend what ruff can mend
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

docs: $(STAMP) ## make the tables of README and docs/ anew
	$(BIN)/python docs/settings_table.py
	$(BIN)/python docs/providers_tables.py
	$(BIN)/python docs/roles_table.py
	$(BIN)/python -m tests.support.summary_table --write
	$(BIN)/python -m tests.support.privacy_corpus --write

proto: $(STAMP) ## generate code from the .proto files
	$(BIN)/python -m hookstream.proto.generate

lock: ## pin every dependency with its hashes (needs uv)
	uv pip compile --quiet pyproject.toml --extra dev --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -o requirements.lock
	uv pip compile --quiet pyproject.toml --universal --python-version 3.11 \
		--generate-hashes --no-emit-index-url --no-header -c requirements.lock -o requirements-run.lock

audit: $(STAMP) ## known vulnerabilities of what is installed to run (asks PyPI's database)
	@$(BIN)/python -m pip_audit --strict --require-hashes --disable-pip --progress-spinner off \
		-r requirements-run.lock || \
		{ echo "NOT AUDITED, or something was found: see above. Where the database cannot be reached from" \
		"here nothing was checked: follow \"By hand\" in SECURITY.md."; exit 1; }

sbom: $(STAMP) ## sbom.json: what is installed to run, with hashes, as CycloneDX
	$(BIN)/python -W ignore -m cyclonedx_py requirements --pyproject pyproject.toml \
		--output-reproducible --of JSON -o $(SBOM) requirements-run.lock

clean: ## delete the virtual environment; the state folder stays
	rm -rf $(VENV)
