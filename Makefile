# Everything a developer, an operator or a pipeline runs. `make help` explains each target.
# Needs Python 3.11 or newer with venv, GNU make and bash; no root, no Docker, no virtual environment to begin with.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules --no-print-directory

PYTHON ?= $(firstword $(shell command -v python3.11) python3)
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
TOOLS := .cache/tools
CHART := helm/modelpress
RENDERED := .cache/rendered
KUBERNETES_VERSIONS := 1.36 1.37
SOAK_MINUTES ?= 120
FAULT_RUNS ?= 20
# Cases per operation and phase, and where they begin.
EXAMPLES ?= 200
SEED ?= 0
# Extra arguments for pip when it installs torch, such as --index-url with PyTorch's CPU-only index.
TORCH_FLAGS ?=
PYTEST_ARGS ?=
BENCH ?= *
# One thread per test process: the suite runs servers, workers and children side by side on few cores.
TEST_THREADS ?= 1

export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONDONTWRITEBYTECODE := 1
export HELM_CACHE_HOME := $(CURDIR)/.cache/helm/cache
export HELM_CONFIG_HOME := $(CURDIR)/.cache/helm/config
export HELM_DATA_HOME := $(CURDIR)/.cache/helm/data

.PHONY: help install demo demo-text demo-stop test check check-python check-format check-lint check-types \
	check-imports k8s-check check-docker check-compose bench fuzz fuzz-api faults soak proofs images-check format docs clean distclean

help: ## explain the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z0-9-]+:.*## / {printf "  make %-18s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: $(STAMP) ## make .venv with everything pinned in constraints.txt (a second run is instant)

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "Python 3.11 or newer is needed; name it: make install PYTHON=/path/to/python3.11" >&2; exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV) \
		|| { echo "python3 -m venv failed; on Debian and Ubuntu it is in the package python3-venv" >&2; exit 1; }
	@# torch first and alone, so that TORCH_FLAGS decides its build and the second call finds it installed.
	$(BIN)/python -m pip install --quiet -c constraints.txt $(TORCH_FLAGS) torch==2.13.0
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@

demo: install ## compress a small image model on this machine and print the before/after table
	$(BIN)/python -m examples.demo

demo-text: install ## compress a real text classifier over REST alone (about 40 minutes on 2 cores)
	$(BIN)/python -c 'from examples.demo import start_stack; start_stack()'
	bash examples/spam.sh

demo-stop: ## end the service that a demo left running
	@pid=$$(cat var/demo/up.pid 2>/dev/null || true); \
	if [[ -n "$$pid" ]] && grep -qs 'modelpress' "/proc/$$pid/cmdline"; then \
		kill -TERM "$$pid"; while [[ -e "/proc/$$pid" ]]; do sleep 0.2; done; echo "stopped"; \
	else echo "no demo is running"; fi; rm -f var/demo/up.pid

test: install ## run the test suite (PYTEST_ARGS="tests/app -x" narrows it)
	@test -x $(TOOLS)/helm || $(BIN)/python tools/fetch_kubectl.py $(TOOLS) || echo "no helm: the chart's tests are skipped"
	@$(MAKE) $(TOOLS)/mlflow/bin/mlflow || echo "no MLflow: the tests against a real registry are skipped"
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest $(PYTEST_ARGS)

check: check-python k8s-check check-docker check-compose ## run every static check (-k: go on after a failure)

check-python: check-format check-lint check-types check-imports ## the four checks of the Python code

check-format: install ## formatting
	$(BIN)/ruff format --check --quiet .

check-lint: install ## lint
	$(BIN)/ruff check --quiet .

check-types: install ## types, strictly
	$(BIN)/mypy --strict app workers modelpress

check-imports: install ## which part may import which
	$(BIN)/lint-imports --no-logo

$(TOOLS)/helm: tools/fetch_kubectl.py | $(STAMP)
	$(BIN)/python tools/fetch_kubectl.py $(TOOLS)

# A virtual environment of its own: it would fight over packages with ours.
$(TOOLS)/checkov/bin/checkov: tools/checkov-constraints.txt
	$(PYTHON) -m venv $(TOOLS)/checkov
	$(TOOLS)/checkov/bin/python -m pip install --quiet -c tools/checkov-constraints.txt checkov
	@touch $@

# Likewise; a server for the tests of pulling from a registry and of answering in it, and ONNX to log models with.
$(TOOLS)/mlflow/bin/mlflow: tools/mlflow-constraints.txt
	$(PYTHON) -m venv $(TOOLS)/mlflow
	$(TOOLS)/mlflow/bin/python -m pip install --quiet -c tools/mlflow-constraints.txt mlflow onnx onnxruntime
	@touch $@

k8s-check: install $(TOOLS)/helm $(TOOLS)/checkov/bin/checkov ## helm lint, every rendering against schemas, our own assertions, checkov
	@rm -rf $(RENDERED) && mkdir -p $(RENDERED)
	@for values in $(CHART)/values.yaml $(CHART)/ci/*.yaml; do \
		$(TOOLS)/helm lint --quiet --strict --values "$$values" $(CHART); \
		for version in $(KUBERNETES_VERSIONS); do \
			rendered="$(RENDERED)/$$(basename "$$values" .yaml)-$$version.yaml"; \
			$(TOOLS)/helm template check $(CHART) --namespace modelpress --kube-version "$$version" \
				--values "$$values" > "$$rendered"; \
			$(BIN)/kubernetes-validate --quiet --kubernetes-version "$$version" --strict "$$rendered" 2>&1 \
				| { grep -v "WARN.*Couldn't find schema" || true; }; \
			echo "valid for Kubernetes $$version: $$values"; \
		done; \
	done
	@# The kinds that kubernetes-validate only warns of.
	$(BIN)/python tools/check_foreign_kinds.py $(RENDERED)/*.yaml
	$(BIN)/python -m pytest --quiet tests/ops/test_chart*.py
	@# checkov reads each rendering of the newest version; what it skips and why stands in its configuration.
	$(TOOLS)/checkov/bin/checkov --config-file .ci/checkov.yaml \
		$$(printf -- '--file %s ' $(RENDERED)/*-$(lastword $(KUBERNETES_VERSIONS)).yaml)

check-docker: install ## lint the Dockerfile
	$(BIN)/hadolint --failure-threshold style Dockerfile

check-compose: ## validate docker-compose.yml (needs docker compose or docker-compose)
	@export MODELPRESS_ENV_FILE=deploy.env.example; \
	if docker compose version >/dev/null 2>&1; then docker compose config --quiet && echo "docker-compose.yml is valid"; \
	elif command -v docker-compose >/dev/null; then docker-compose config --quiet && echo "docker-compose.yml is valid"; \
	else echo "neither docker compose nor docker-compose is installed: only tests/ops looks at docker-compose.yml"; fi

bench: install ## measure our work and the peers' beside it (BENCH=training_step runs one)
	@for script in bench/$(BENCH).py; do \
		[[ "$$(basename "$$script")" == _* ]] || { echo "== $$script"; $(BIN)/python -m "bench.$$(basename "$$script" .py)"; }; \
	done

fuzz: install ## compare 3,000 new random graphs with ONNX Runtime (PYTEST_ARGS=--hypothesis-seed=7 repeats some)
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m pytest tests/conformance/test_random_graphs.py \
		--hypothesis-profile=fuzz --timeout=0 $(PYTEST_ARGS)

fuzz-api: install ## send calls made of the API's own description to a gateway, all phases of Schemathesis
	$(BIN)/python -m tests.fuzz.api --examples $(EXAMPLES) --seed $(SEED)

faults: install ## break the service in 24 ways with FAULT_RUNS (20) timings each; writes docs/reliability.md
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m tests.faults.soak --runs $(FAULT_RUNS) --write

soak: faults ## the faults, then 5,000 small jobs over SOAK_MINUTES (120) with a worker killed each minute
	OMP_NUM_THREADS=$(TEST_THREADS) $(BIN)/python -m tests.faults.endurance --minutes $(SOAK_MINUTES) --write

proofs: install ## rolling restart, upgrade and restore with work under way (needs haproxy); writes docs/reliability.md
	$(BIN)/python -m tests.faults.rolling --jobs 100 --write
	$(BIN)/python -m tests.faults.upgrade --jobs 60 --write
	$(BIN)/python -m tests.faults.restore --jobs 12 --write
	$(BIN)/python -m bench.workers --jobs 24 --seconds 10 --write

images-check: ## build both images with buildah and run a job inside them (needs root, about 12 GB)
	tools/check_images.sh

format: install ## format the code and apply the safe fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: install ## rewrite the generated parts of the documentation
	$(BIN)/python tools/settings_table.py docs/operations.md
	$(BIN)/python tools/operators_table.py docs/operators.md
	$(BIN)/python tools/dimensions_table.py docs/dimensions.md
	$(BIN)/python tools/values_table.py $(CHART)

clean: ## remove build outputs and caches of tools; keep .venv and data
	rm -rf build dist out $(RENDERED) .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .hypothesis
	find app workers modelpress tests -name __pycache__ -prune -exec rm -rf {} +

distclean: clean ## remove .venv as well
	rm -rf $(VENV) .cache
