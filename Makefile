# Start with `make demo` and `make test`. Each target installs what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
VLLM := .venv-vllm
PIP_FLAGS := --quiet --disable-pip-version-check
PARALLEL := -n logical --dist worksteal
# Tests that need nothing but the development tools
PLAIN := not distributed and not browser and not vllm and not fuzz and not inspect and not gpu

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-fuzz test-lowest test-distributed test-browser test-eval test-vllm test-gpu test-all check format bench bench-gpu bench-real study figures notebooks docs docs-serve mutate policy build clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing trl-archer into $(VENV) (once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "trl-archer needs Python 3.11 or newer; set PYTHON=/path/to/python3"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install $(PIP_FLAGS) --constraint constraints.txt torch
	@$(BIN)/pip install $(PIP_FLAGS) --constraint constraints.txt --editable .
	@touch $@

# An extra of pyproject.toml: .installed-dev, .installed-docs, ...
$(VENV)/.installed-%: $(VENV)/.installed
	@echo "Installing the extra '$*' ..."
	@$(BIN)/pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[$*]'
	@touch $@

$(LOWEST)/.installed: pyproject.toml constraints.txt constraints-lowest.txt
	@echo "Installing the lowest supported versions into $(LOWEST) (once) ..."
	@$(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/pip install $(PIP_FLAGS) --constraint constraints.txt torch
	@$(LOWEST)/bin/pip install $(PIP_FLAGS) --constraint constraints-lowest.txt --editable '.[dev]' triton
	@touch $@

setup: $(VENV)/.installed-dev ## Create .venv with the package and the development tools, at pinned versions

demo: $(VENV)/.installed-plots ## Train Archer on the playground: offline, a few minutes on a CPU
	@$(BIN)/trl-archer demo $(ARGS)

test: setup ## Run the tests: offline, up to 5 minutes on 2 cores
	@$(BIN)/pytest $(PARALLEL) -m "$(PLAIN) and not slow" $(ARGS)

test-slow: setup ## Run the long proofs that `make test` leaves out
	@$(BIN)/pytest $(PARALLEL) -m "$(PLAIN) and slow" $(ARGS)

test-fuzz: setup ## Compare random configurations with TRL; FUZZ=1000 draws more than 40 of each kind
	@$(BIN)/pytest $(PARALLEL) -m fuzz tests/fuzz $(ARGS)

# Only the tests that depend on the versions of TRL and its companions. Older libraries warn about other things.
LOWEST_TESTS := tests/trainer tests/grpo tests/records tests/methods/test_trainer.py tests/rewards/test_training.py \
	$(patsubst %,tests/commands/test_%.py,train check recipes presets launch export)
test-lowest: $(LOWEST)/.installed ## Run the tests that depend on TRL on the lowest versions that we support
	@TRITON_INTERPRET=1 $(LOWEST)/bin/pytest $(PARALLEL) -W default -m "$(PLAIN) and not slow and not training" $(LOWEST_TESTS) $(ARGS)

test-distributed: setup $(VENV)/.installed-deepspeed ## Run the tests with several processes (DDP, ZeRO, FSDP2) on the CPU
	@$(BIN)/pytest -m distributed $(ARGS)

test-eval: setup $(VENV)/.installed-eval ## Run the tests that evaluate with Inspect
	@$(BIN)/pytest -n 2 -m inspect tests/evaluation tests/commands $(ARGS)

test-browser: setup $(VENV)/.installed-trackio ## Run the tests in headless Chromium (Debian, Ubuntu: apt install chromium)
	@$(BIN)/pytest -m browser $(ARGS)

# Libraries warn of other things on a GPU than on a CPU, where a warning is an error
test-gpu: setup ## Run the tests on a CUDA device: 4 minutes; skipped without one
	@$(BIN)/pytest -W default -m gpu tests/gpu $(ARGS)

# Dependencies are resolved for torch only: vLLM's CPU wheel requires packages that we leave out
$(VLLM)/.installed: pyproject.toml requirements-vllm.txt $(wildcard tests/vllm_engine/cpu_shims/*)
	@echo "Installing vLLM for CPUs into $(VLLM) (once, 3 GB) ..."
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/pip install $(PIP_FLAGS) --constraint requirements-vllm.txt torch
	@$(VLLM)/bin/pip install $(PIP_FLAGS) --no-deps --requirement requirements-vllm.txt
	@$(VLLM)/bin/pip install $(PIP_FLAGS) --no-deps ./tests/vllm_engine/cpu_shims --editable .
	@touch $@

test-vllm: $(VLLM)/.installed ## Run the tests with a real vLLM engine, on the CPU
	@$(VLLM)/bin/pytest -n 2 -m vllm tests/vllm_engine $(ARGS)

test-all: check docs test test-slow test-fuzz test-lowest test-distributed test-browser test-eval test-vllm notebooks mutate ## Run everything that must pass

check: setup ## Check format, lint, types and English; never writes
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/codespell *.md benchmarks docs examples notebooks src tests
	@$(BIN)/python -m tests.docs.english

format: setup ## Format the code and fix what ruff can fix
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## Run the benchmarks beside TRL (2 hours); write benchmarks/results/ and its tables
	@$(BIN)/python -m benchmarks.compute_loss
	@$(BIN)/python -m benchmarks.update_phase
	@$(BIN)/python -m benchmarks.step_breakdown
	@$(BIN)/python -m benchmarks.rewards
	@$(BIN)/python -m benchmarks.evaluation_report
	@$(BIN)/python -m benchmarks.playground
	@$(BIN)/python -m benchmarks.ablation
	@$(BIN)/python -m benchmarks.methods
	@$(BIN)/python -m benchmarks.scaling
	@$(BIN)/python -m benchmarks.example_run
	@$(BIN)/python -m benchmarks.render
	@$(BIN)/python -m benchmarks.figures

bench-gpu: setup ## Benchmark the update phase beside TRL on a CUDA device (5 minutes)
	@$(BIN)/python -m benchmarks.gpu --parts smoke,update_phase $(ARGS)

bench-real: setup $(VENV)/.installed-real-model ## Train Gemma 3 270M with Archer and GRPO: minutes on a GPU, hours on a CPU
	@$(BIN)/python -m benchmarks.real_model $(ARGS)

study: setup ## Compare methods on three tasks over many seeds (about a day on 2 cores, estimated; resumable); --quick tries it out
	@OMP_NUM_THREADS=1 $(BIN)/python -m benchmarks.study $(ARGS)

figures: setup ## Redraw the figures of the README and docs/figures.md from benchmarks/results/
	@$(BIN)/python -m benchmarks.figures
	@$(BIN)/python -m benchmarks.real_model.figures

# For formulas, on systems without a font that has a table for mathematics
MATH_FONT := docs/stylesheets/DejaVuSerif.ttf
$(MATH_FONT): $(VENV)/.installed-docs
	@cp "$$($(BIN)/python -c 'import matplotlib; print(matplotlib.get_data_path())')/fonts/ttf/$(@F)" $@

docs: $(MATH_FONT) ## Build the documentation into site/, offline; fails on a warning or a broken link
	@$(BIN)/python docs/plugins/notebook_pages.py
	@PYTHONPATH=docs/plugins $(BIN)/zensical build --clean
	@$(BIN)/python docs/plugins/check_site.py site
	@echo "Open site/index.html; for search, make docs-serve."

docs-serve: $(MATH_FONT) ## Serve the documentation on http://localhost:8000 and rebuild it after each change
	@$(BIN)/python docs/plugins/notebook_pages.py
	@PYTHONPATH=docs/plugins $(BIN)/zensical serve

notebooks: setup $(VENV)/.installed-notebooks ## Run the notebooks at tiny size; ARGS="--write" rewrites the .ipynb files
	@$(BIN)/python notebooks/run.py $(ARGS)

mutate: setup ## Break the objective on purpose; the tests must kill every mutant
	@$(BIN)/python -m tests.mutate

policy: setup # Retrains the playground's warm-started policy
	@$(BIN)/python -m benchmarks.warm_start --output runs/warm_start_policy

build: $(VENV)/.installed ## Build wheel and sdist into dist/
	@$(BIN)/pip install $(PIP_FLAGS) build
	@$(BIN)/python -m build

clean: ## Remove environments and caches
	rm -rf $(VENV) $(LOWEST) $(VLLM) dist build site .cache $(MATH_FONT) docs/notebook_*.md .hypothesis .pytest_cache .mypy_cache .ruff_cache
