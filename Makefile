# What people type. `make help` lists it.

SHELL := /bin/bash -o pipefail
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

TARGET := $(or $(CARGO_TARGET_DIR),target)
WEB := control/web
BROWSER := tests/e2e/browser
FUZZ := tests/fuzz
# Seconds for each fuzz target, and how many run at a time.
FUZZ_SECONDS ?= 180
FUZZ_JOBS ?= 2
# Where tests/setup.sh puts cargo's tools.
export PATH := $(PATH):$(or $(XDG_CACHE_HOME),$(HOME)/.cache)/weir/bin
# Most tests wait for media to pass in real time, so more of them run than there are cores; those
# that load the machine take turns by themselves (tests/e2e/support/turn.rs).
export RUST_TEST_THREADS ?= 8

# apt and the pages' build stand no second run beside them; cargo uses all cores by itself.
.NOTPARALLEL:
.PHONY: help run test test-web test-rust lint lint-deploy bench bench-attacks bench-control bench-fanout bench-hls bench-rtc sim fuzz web cluster setup-run setup-test setup-bench setup-cluster setup-deploy

help: ## this list
	@sed -nE 's/^([a-z-]+):[^#]*## (.*)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 18

run: setup-run web ## build everything and start weir; ARGS="--demo" hands flags on
	cargo run --release --locked -- $(ARGS)

test: test-web test-rust ## all set-up and all tests

lint: web lint-deploy ## formatting, clippy, licences and bans, types of the pages, deploy/
	cargo fmt --all --check
	cargo clippy --workspace --all-targets --locked -- -D warnings
	tests/setup.sh deny
	cargo fetch --locked
	cargo deny --offline check bans licenses sources
	npm --prefix $(WEB) run --if-present lint
	npm --prefix $(WEB) run --if-present check

lint-deploy: setup-deploy ## image, compose file, chart, units, nginx, alerts and dashboard of deploy/
	deploy/lint.sh

bench: setup-bench web ## the benches: the hot paths, taking streams in beside nginx-rtmp, and the two below
	cargo bench -p media-core --bench media --locked
	cargo bench -p weir --bench ingest --locked
	cargo bench -p weir --bench fanout --locked
	cargo bench -p weir --bench hls --locked
	cargo bench -p weir --bench rtc --locked

bench-rtc: setup-bench web ## what a viewer by WebRTC costs beside bare encryption and sending, and Janus; ARGS="--quick" is shorter
	cargo bench -p weir --bench rtc --locked -- $(ARGS)

bench-fanout: setup-bench web ## what a viewer costs beside bare `send` and nginx-rtmp; ARGS="--quick" is shorter
	cargo bench -p weir --bench fanout --locked -- $(ARGS)

bench-hls: setup-bench web ## thousands of LL-HLS players, and files beside nginx; ARGS="--quick" is shorter
	cargo bench -p weir --bench hls --locked -- $(ARGS)

bench-attacks: setup-bench web ## what honest viewers notice of slow attackers
	cargo bench -p weir --bench attacks --locked

bench-control: web ## what it costs to decide where a viewer goes, beside plain hashing; ARGS="--quick" is shorter
	cargo bench -p control --bench control --locked -- $(ARGS)

sim: web ## 10,000 edges and 10,000,000 viewers in virtual time over the real scheduler; ARGS="--quick" is a hundredth
	cargo bench -p control --bench sim --locked -- $(ARGS)

cluster: setup-cluster web ## a cluster on this machine: control, origins, edges, etcd and Redis; Ctrl-C ends it
	cargo build --release --locked
	deploy/cluster.sh $(TARGET)/release/weir

fuzz: ## every fuzz target for FUZZ_SECONDS (default 180) seconds, FUZZ_JOBS (2) at a time
	tests/setup.sh fuzz
	FUZZ_SECONDS=$(FUZZ_SECONDS) FUZZ_JOBS=$(FUZZ_JOBS) $(FUZZ)/run.sh

test-web: web
	npm --prefix $(WEB) run --if-present test

test-rust: setup-test web $(BROWSER)/node_modules/.package-lock.json
	cargo test --workspace --locked

# The pages, embedded into the binary. Rebuilt when a source is newer than the last build.
web: $(WEB)/dist/index.html

$(WEB)/dist/index.html: $(WEB)/node_modules/.package-lock.json \
    $(shell find $(WEB) -type f -not -path '*/node_modules/*' -not -path '*/dist/*' 2>/dev/null)
	npm --prefix $(WEB) run build
	@touch $@

%/node_modules/.package-lock.json: %/package-lock.json | setup-run
	npm --prefix $* ci --no-audit --no-fund
	@touch $@

setup-run setup-test setup-bench setup-cluster setup-deploy:
	@tests/setup.sh $(@:setup-%=%)
