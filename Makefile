# What a contributor and CI run. `make test` needs cargo, Go and a C compiler on the path and installs the rest.

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.ONESHELL:
.DEFAULT_GOAL := help

# Where the installers put them; a shell without a profile does not know.
export PATH := $(PATH):$(HOME)/.cargo/bin:/usr/local/go/bin

.PHONY: help
help: ## Show this list.
	@grep -E '^[a-z]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z]+):.*## /\1\t/' | expand -t 10

.PHONY: test
test: tools ## Everything that must pass: format, clippy, all tests, the chart, the operator on a real cluster (root).
	@say() { printf '\n== %s\n' "$$*"; }
	# Servers and Kubernetes take minutes: they are built at low priority beside the dependencies, in a process group
	# of their own.
	log=$$(mktemp)
	setsid nice -n 19 sh -c 'for server in minio toxiproxy versitygw moto; do tests/servers/build.sh $$server || exit; done
	    tests/chart/promtool/build.sh && tests/cluster/programs/build.sh && tests/gitops/judge/build.sh' \
	    >"$$log" 2>&1 </dev/null & builder=$$!
	trap 'kill -- -$$builder 2>/dev/null || true; rm -f "$$log"' EXIT
	say 'cargo fmt --check'
	cargo fmt --check
	say 'cargo clippy'
	cargo clippy --release --locked --all-targets -- -D warnings
	cargo clippy --release --locked --test e2e -- -D warnings
	say 'build the tests'
	cargo test --release --locked --no-run
	cargo test --release --locked --no-run --test e2e
	say 'wait for the servers and Kubernetes'
	wait $$builder || { cat "$$log" >&2; exit 1; }
	cat "$$log"
	trap 'rm -f "$$log"' EXIT
	say 'run the tests'
	cargo test --release --locked
	$(MAKE) --no-print-directory chart e2e

.PHONY: chart
chart: ## What the Helm chart renders and refuses.
	@bin=$$(mktemp -d)
	trap 'rm -rf "$$bin"' EXIT
	ln -s "$$(tests/cluster/programs/build.sh | grep /helm-)" "$$bin/helm"
	PATH=$$bin:$$PATH tests/chart/run.sh

.PHONY: e2e
e2e: tools ## The operator on a real cluster, brought up for it (root), or that of E2E_KUBECONFIG.
	@tests/e2e/run.sh

.PHONY: chaos
chaos: tools ## Several jobs while all sorts of things are killed and cut off (root): CHAOS_SECONDS, an hour by default.
	@export CHAOS_SECONDS=$${CHAOS_SECONDS:-3600}
	E2E_PARTS=chaos tests/e2e/run.sh

.PHONY: lint
lint: tools ## Format and clippy; licences and bans if cargo-deny is installed.
	@cargo fmt --check
	cargo clippy --release --locked --all-targets -- -D warnings
	cargo clippy --release --locked --test e2e -- -D warnings
	if cargo deny --version >/dev/null 2>&1; then
	    cargo deny --locked check bans licenses sources
	else
	    echo 'cargo-deny is not installed: licences and bans were not checked (cargo install cargo-deny --locked)'
	fi

.PHONY: bench
bench: ## Compaction beside a plain copy, the memory of a worker, the operator at scale (as root). Not part of the tests.
	cargo bench --locked --bench compaction
	cargo bench --locked --bench operator

.PHONY: fuzz
fuzz: ## Alters what is read from outside, and looks whether anything breaks: FUZZ_SECONDS, ten minutes by default.
	@export FUZZ_SECONDS=$${FUZZ_SECONDS:-600} FUZZ_SEED=$${FUZZ_SEED:-$$(date +%s%N)}
	cargo test --locked --test fuzz -- --nocapture

.PHONY: nightly
nightly: tools fuzz ## The long versions of tests: fuzzing, every fault on the way to the store (root). Prints the tables.
	@tests/servers/build.sh minio
	tests/servers/build.sh toxiproxy
	table=$$(mktemp)
	trap 'rm -f "$$table"' EXIT
	FAULTS=all FAULTS_TABLE=$$table cargo test --release --locked --test network_faults -- --nocapture
	cat "$$table"

.PHONY: crds
crds: ## Generate crds/, the chart's copy and docs/reference.md from the types.
	@new=$$(mktemp)
	trap 'rm -f "$$new"' EXIT
	cargo run --release --locked --quiet -- crds >"$$new"
	cat "$$new" >crds/compaction.dev.yaml
	cat "$$new" >charts/compaction-operator/files/crds.yaml
	cargo run --release --locked --quiet -- reference >"$$new"
	cat "$$new" >docs/reference.md

# What the rest needs and a machine may lack.
.PHONY: tools
tools:
	@need() { command -v "$$1" >/dev/null || { echo "make: $$1 is missing: $$2" >&2; exit 1; }; }
	need cargo 'install Rust, the version in Cargo.toml or later'
	need go 'install Go, the version in tests/cluster/programs/go.mod or later; MinIO and Kubernetes are built with it'
	if ! command -v cc >/dev/null; then
	    echo '== install a C compiler'
	    export DEBIAN_FRONTEND=noninteractive
	    apt-get update -q
	    apt-get install -yq --no-install-recommends gcc libc6-dev
	fi
	cargo fmt --version >/dev/null 2>&1 || rustup component add rustfmt
	cargo clippy --version >/dev/null 2>&1 || rustup component add clippy
