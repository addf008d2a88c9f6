# Everything a person or CI runs. `make` alone lists it.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: FORCE help demo test test-fast check bench up down stack-test clean-brokers

help: ## Say what can be made
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## See it work: broker, service, receivers, events, and a table of what happened (about a minute after the build)
	@scripts/demo

test: ## Every test, against a private RabbitMQ node and a private PostgreSQL server
	@scripts/test

test-fast: ## The tests that need no other server than RabbitMQ and no patience: under five minutes after the build
	@scripts/test --fast

check: ## Formatting, lints, documentation, licences and advisories, wire compatibility, shell scripts
	@scripts/check

# BENCH_ARGS: anything else that `docrelay-bench --help` names. IN_MEMORY: the broker's data is in memory, so that its waits
# for the disk are in no figure.
bench: ## docrelay beside the bare loop, and its targets beside each other, into target/bench/ (ROUNDS= EVENTS=20000 FAN_OUT=1,3 ONLY= QUICK=1 IN_MEMORY=1)
	@scripts/broker install
	cargo build --release --workspace --bins --locked
	@ulimit -n "$$(ulimit -Hn)"; $(if $(IN_MEMORY),DOCRELAY_BROKER_DATA=/dev/shm )scripts/with-broker "$${CARGO_TARGET_DIR:-target}/release/docrelay-bench" $(if $(ROUNDS),--rounds $(ROUNDS)) $(if $(EVENTS),--events $(EVENTS)) \
	    $(if $(FAN_OUT),--fan-out $(FAN_OUT)) $(if $(ONLY),--only $(ONLY)) $(if $(QUICK),--quick) $(BENCH_ARGS)
	cargo bench --locked --bench matching

FORCE:

# What is in the second file only counts for STORE=postgres; to stop, both are read, whichever was started.
compose = docker compose --file docker-compose.yml $(if $(filter postgres,$(STORE)),--file docker-compose.postgres.yml)

up: .env ## Start RabbitMQ, docrelay, Tempo, Prometheus and Grafana with Docker Compose (STORE=postgres: two replicas; COMPOSE_PROFILES=demo: events)
	$(compose) up $(if $(DOCRELAY_IMAGE),--no-build,--build) --detach --wait docrelay grafana
	$(compose) up --no-build --detach

down: .env ## Stop what `make up` started; its data stays
	docker compose --file docker-compose.yml --file docker-compose.postgres.yml --profile demo down

stack-test: ## Build the image and bring the stack up and down, in Docker or what stands in for it (STORE=postgres: two replicas)
	@scripts/stack test $(STORE) || { code=$$?; [[ $$code == 75 ]] && echo "stack-test: SKIPPED, see above" >&2 || exit $$code; }

# Random secrets, each once: what is there is never changed.
.env: FORCE
	@umask 077; touch .env; \
	add() { grep -q "^$$1=" .env || { printf '%s=%s\n' "$$1" "$$2" >> .env; echo "wrote $$1 to .env"; }; }; \
	add RABBITMQ_USER docrelay; \
	random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }; \
	add RABBITMQ_PASSWORD "$$(random)"; \
	add POSTGRES_PASSWORD "$$(random)"; \
	add GRAFANA_PASSWORD "$$(random)"; \
	add DOCRELAY_SECRETS_KEYS "first:$$(head -c 32 /dev/urandom | base64 | tr -d '\n')"

clean-brokers: ## Stop private RabbitMQ nodes that were left behind
	@scripts/clean-brokers
