# The two commands are `make demo` and `make test`; each sets everything up. See README.md.
SHELL := /bin/bash
VENV := .venv
BIN := $(VENV)/bin
# By content, not by time: a fresh checkout of the same files must not need the network again.
INSTALLED_FROM := setup.cfg pyproject.toml constraints.txt prepare_machine.sh
STAMP := $(VENV)/.installed-$(shell cat $(INSTALLED_FROM) | cksum | cut -d" " -f1)

# A worker for each core; a file's tests stay together, for they share fixtures, and the long files come first.
# A worker that dies ends the run: its file would not be taken up again, and the others would wait for ever.
SIDE_BY_SIDE := --numprocesses auto --dist loadfile --no-loadscope-reorder --max-worker-restart 0

.PHONY: help demo test quick check format setup inputs clean benchmarks cameras patches fuzz

help: ## show this list
	@grep -E '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

demo: setup system-weights ## run the whole loop on real video: train, publish, relay, patch, try, recognise (SPEED=2, OUT=demo-run)
	@$(BIN)/python -m demo --speed $(or $(SPEED),2) --out $(or $(OUT),demo-run)

test: setup system-tests inputs ## run every test
	$(BIN)/python -m pytest $(SIDE_BY_SIDE)

quick: setup ## run the fast tests only: no network, broker, camera or training
	$(BIN)/python -m pytest $(SIDE_BY_SIDE) tests/unit -m "not slow"

check: setup ## lint, types and import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: setup ## rewrite the code in our format
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

fuzz: setup ## apply a million damaged patches (CASES=1000000, SEED=1)
	$(BIN)/python -m tests.fuzz_patches --cases $(or $(CASES),1000000) --seed $(or $(SEED),1)

inputs: setup system-weights ## fetch the sample video and the weights once, into the cache
	@$(BIN)/cloud_tools inputs

benchmarks: setup inputs ## measure what docs/vision.md states
	$(BIN)/python benchmarks/vision.py

cameras: setup inputs ## take the agent through cameras that fail, 500 reconnects and a looped video (about half an hour)
	$(BIN)/python -m benchmarks.cameras

patches: setup inputs ## train the pairs and measure docs/benchmarks/patches.md against every peer (about two hours)
	@./prepare_machine.sh --peers $(VENV)
	$(BIN)/python -m benchmarks.patches all

setup: $(STAMP)

$(STAMP):
	@./prepare_machine.sh $(VENV)
	@touch $@

.PHONY: system-tests system-weights
system-tests:
	@./prepare_machine.sh --tests

system-weights:
	@./prepare_machine.sh --weights

clean: ## remove the virtual environment, caches of tools and the demo's output
	rm -rf $(VENV) demo-run build *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
