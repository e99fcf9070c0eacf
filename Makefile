# Everything a fresh clone needs: `make demo` and `make test` install what is missing, build, and run.
#
# The build cache lies outside the clone, so that the long C++ build happens once per machine.

CACHE := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)
export CARGO_TARGET_DIR ?= $(CACHE)/ghostlight/target
export CARGO_TERM_COLOR ?= auto

REPORT := $(CARGO_TARGET_DIR)/debug/ghostlight-report

.PHONY: help demo build test test-sdks test-buses test-kafka chaos canaries fuzz corpus lint deny setup

help:
	@echo "make demo       build, then three nodes on this machine with load; Ctrl-C ends it"
	@echo "make test       format, lints, dependencies, every test; figures in chaos-report/"
	@echo "make test-sdks  the examples with Dapr's SDKs on three nodes, some of which are killed; LANGUAGES=\"python go\" for some"
	@echo "make test-buses external buses against their real servers, those that can be installed"
	@echo "make test-kafka the Kafka component against a mock cluster; builds its client, a C library"
	@echo "make chaos      the long versions of the simulation and of the real-process tests: MINUTES=60 OUT=chaos-report"
	@echo "make canaries   deliberate bugs in the real code, each found by the simulator"
	@echo "make fuzz       every decoder, fed by a fuzzer that follows coverage: SECONDS=60 for each"
	@echo "make corpus     the fuzzer's first inputs made anew, of what simulated nodes say"
	@echo "make lint       format and lints alone"
	@echo "make build      the binary alone, as ./ghostlight"

demo: build
	./ghostlight demo

build: setup
	cargo build --workspace --bins
	@ln -sfn "$(CARGO_TARGET_DIR)/debug/ghostlight" ghostlight

test: lint deny build
	@$(REPORT) begin
	@failed=0; \
	cargo test --workspace --no-fail-fast || failed=1; \
	$(MAKE) --no-print-directory canaries test-kafka || failed=1; \
	$(REPORT) || failed=1; \
	exit $$failed

# A build of its own: with these bugs in it the product does not compile.
canaries:
	cargo test -p ghostlight-sim --features canaries --test canaries -- --nocapture

# The SDKs are installed, and the examples built, in the cache, once. A language whose toolchain is missing is reported as skipped.
SDKS := $(CACHE)/ghostlight/sdks
LANGUAGES := python javascript java go rust
test-sdks: build
	python3 chaos-tests/sdks/proof.py "$(CURDIR)/ghostlight" "$(SDKS)" $(LANGUAGES)

# Buses against their real servers. What is not installed is installed where that can be done, and skipped elsewhere.
test-buses: build
	@sh deploy/bus-servers.sh
	PATH="$$PATH:$(CACHE)/ghostlight/buses/bin" cargo test -p ghostlight-buses -- --nocapture --test-threads 2
	PATH="$$PATH:$(CACHE)/ghostlight/buses/bin" cargo test -p ghostlight-chaos --test buses -- --nocapture --test-threads 1

# A build of its own, for its client is a C library that the product is built without.
test-kafka:
	cargo test -p ghostlight-buses --features kafka --lib kafka
	cargo test -p ghostlight-buses --features kafka --test real_servers -- pubsub.kafka --test-threads 1

# All of it, unattended: each part is run whatever became of those before it. Fails when a promise was broken.
chaos: build
	@bash chaos-tests/run-all "$(or $(MINUTES),60)" "$(REPORT)"

lint: setup
	cargo fmt --all -- --check
	cargo clippy --workspace --all-targets -- -D warnings
	cargo clippy -p ghostlight-sim --features canaries --tests -- -D warnings
	cargo clippy -p ghostlight-buses --features kafka --all-targets -- -D warnings

# Wants a toolchain and a tool that nothing else here wants; says so where they are missing.
fuzz:
	@bash chaos-tests/fuzz/run fuzz "$(or $(SECONDS),60)"

corpus:
	@bash chaos-tests/fuzz/run corpus

# The dependency check needs a tool that is not part of the toolchain; it runs where it is installed.
deny:
	@if command -v cargo-deny >/dev/null 2>&1; then cargo deny --workspace check licenses bans sources; \
	else echo "cargo-deny is not installed: the check of licences and sources is skipped"; fi

setup:
	@sh deploy/setup.sh
