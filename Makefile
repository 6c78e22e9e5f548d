# `make` or `make help` lists what can be done.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
MAKEFLAGS += --no-print-directory

# The pinned Rust, under whatever name it is installed here (see scripts/toolchain).
toolchain := $(shell scripts/toolchain)
ifneq ($(toolchain),)
export RUSTUP_TOOLCHAIN := $(toolchain)
endif

# nextest's profile: `ci` runs everything whatever fails.
TEST_PROFILE ?= $(if $(filter true,$(CI)),ci,default)

.PHONY: help demo test bench mutants check fmt clippy deny doc tidy contracts tools

help: ## Lists what can be done
	@sed -n 's/^\([a-z]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 12

demo: ## Starts a whole market on this machine and trains digits on it
	digits=$$(cargo xtask digits); TRADEWIND_DIGITS=$$digits cargo run --locked -p tradewind -- demo $(DEMO_ARGS)

test: ## Passes every test; says what it lacks and installs it first
	scripts/tools test
	cd contracts && ./node_modules/.bin/forge test
	cargo test --quiet --locked --workspace --doc
	scripts/with-dockerd scripts/with-slurm cargo nextest run --locked --workspace --profile $(TEST_PROFILE)

bench: ## Measures everything beside its peers; says what it lacks and installs it first
	scripts/tools bench
	cargo build --release --locked -p tradewind -p tradewind-bench
	scripts/with-dockerd scripts/with-slurm $${CARGO_TARGET_DIR:-target}/release/tradewind-bench --json target/bench.json $(ARGS)

mutants: ## Mutates each rule of slashing, bonds and fees: a test has to fail; takes hours
	scripts/tools mutants
	contracts/mutants
	scripts/mutants

check: ## Everything that reads the code without running it
	scripts/tools check
	@for part in fmt tidy deny clippy doc contracts; do echo "check: $$part"; $(MAKE) $$part; done

fmt: ## check: the format
	cargo fmt --all --check

clippy: ## check: lints, none of which may speak
	cargo clippy --locked --workspace --all-targets -- -D warnings

deny: ## check: bans, licences, sources and advisories of dependencies
	scripts/deny

doc: ## check: the documentation builds and its links hold
	RUSTDOCFLAGS="-D warnings" cargo doc --locked --workspace --no-deps --document-private-items

tidy: ## check: rules of the house
	cargo xtask tidy

contracts: ## check: the committed artifacts are those of the sources
	contracts/build --check

tools: ## Installs what check and test need
	scripts/tools check test
