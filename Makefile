# Churnstream: `make help` says what there is. Everything runs in .venv, which scripts/set-up makes from the committed lock.

BIN := .venv/bin
# a module's tests stay together, in order; each process has a platform of its own
PARALLEL := --numprocesses=logical --maxprocesses=4 --dist=loadscope --no-loadscope-reorder
export CASE DATA USERS EVENTS PEERS POINTS SEED KILLS BODIES

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow check lint certificate torture fuzz bench-features bench-river bench-latency bench-door bench-worker \
	bench-recovery bench-workers bench-metrics bench-windows-cost bench-serving lab lock up down status clean

help: ## Say what each target does
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-18s %s\n", $$1, $$2 }' Makefile

demo: ## Run the numbered notebooks, end to end; CASE= DATA= USERS= EVENTS= choose what flows
	@scripts/set-up base
	@$(BIN)/churnstream demo $${CASE:+--case "$$CASE"} $${DATA:+--data "$$DATA"} \
		$${USERS:+--users "$$USERS"} $${EVENTS:+--events "$$EVENTS"}

test: ## Run the tests, but for the slow ones
	@scripts/set-up dev
	@$(BIN)/pytest $(PARALLEL)

test-slow: ## Run the slow tests
	@scripts/set-up dev
	@scripts/set-up-serving-peers mlflow
	@$(BIN)/pytest -m slow $(PARALLEL)

lint: ## Check format, style and types
	@scripts/set-up dev
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy

check: lint test ## Check format, style and types, and run the tests: what CI asks of a change

certificate: ## Prove that features are the same in batch, stream and serving; POINTS= SEED= choose the replay
	@scripts/set-up base
	@$(BIN)/python -m churnstream.certificate $${POINTS:+--points "$$POINTS"} $${SEED:+--seed "$$SEED"}

torture: ## Kill everything, again and again, and compare what comes out; KILLS= EVENTS= SEED= choose how much
	@scripts/set-up dev
	@$(BIN)/python -m tests.replay.torture $${KILLS:+--kills "$$KILLS"} $${EVENTS:+--events "$$EVENTS"} $${SEED:+--seed "$$SEED"}

fuzz: ## Throw broken bodies at the door, and account for each; BODIES= SEED= CASE= choose them
	@scripts/set-up dev
	@$(BIN)/python -m tests.fuzz.door $${BODIES:+--bodies "$$BODIES"} $${SEED:+--seed "$$SEED"} $${CASE:+--case "$$CASE"}

bench-features: ## Measure how fast features are computed, beside others who can; PEERS= chooses whom
	@scripts/set-up base
	@scripts/set-up-peers $(PEERS)
	@$(BIN)/python -m tests.bench.features $${PEERS:+--peers $$PEERS}

bench-river: ## Measure the whole river: 2,002,000 events through every stage
	@scripts/set-up base
	@$(BIN)/python -m tests.bench.river

bench-latency: ## Measure how long an event takes from the door to a readable prediction
	@scripts/set-up base
	@$(BIN)/python -m tests.bench.latency

bench-door: ## Measure how fast JSON comes in
	@scripts/set-up base
	@$(BIN)/python -m tests.bench.door

bench-worker: ## Measure requests a second of a handler that does nothing, beside Nuclio's processor where it is
	@scripts/set-up dev
	@$(BIN)/python -m tests.bench.worker

bench-workers: ## Measure two workers against one for the features function
	@scripts/set-up base
	@$(BIN)/python -m tests.bench.workers

bench-metrics: ## Measure what metrics cost the features function
	@scripts/set-up base
	@$(BIN)/python -m tests.bench.metrics

bench-recovery: ## Measure how soon predictions go on after every process was killed at once
	@scripts/set-up base
	@$(BIN)/python -m tests.bench.recovery

bench-windows-cost: ## Measure and draw what an event costs, against customers and windows
	@scripts/set-up base
	@$(BIN)/python -m tests.bench.features_cost

bench-serving: ## Measure requests a second of serving, beside others who serve models
	@scripts/set-up dev
	@scripts/set-up-serving-peers
	@$(BIN)/python -m tests.bench.serving

lab: ## Open the notebooks in JupyterLab
	@scripts/set-up lab
	@$(BIN)/jupyter lab --notebook-dir=. notebooks

lock: ## Write the requirements*.lock files from pyproject.toml; UPGRADE=1 takes newer versions
	@scripts/lock $(if $(UPGRADE),--upgrade)

up: ## Start the local platform, with every function deployed before
	@scripts/set-up base
	@$(BIN)/churnstream up

down: ## Stop the local platform; no process stays
	@if [ -x $(BIN)/churnstream ]; then $(BIN)/churnstream down; else echo "nothing is installed, so nothing runs"; fi

status: ## Say which functions run, where, and how far each has read
	@scripts/set-up base
	@$(BIN)/churnstream status

clean: down ## Stop the platform and remove its data, build/ and the caches; .venv stays
	@rm -rf .churnstream build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .schemathesis
	@find . -name __pycache__ -type d -not -path './.venv/*' -prune -exec rm -rf {} +
