# `make help` lists the targets. Needs cargo; what else is missing is installed by apt where this runs as root.
SHELL := /bin/bash
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PREFIX ?= /usr/local
ARCH := $(shell uname -m)
NEED := conformance/settings/need
COMPILER := cargo rustup cc gcc /usr/include/stdlib.h libc6-dev
export PROA_COMMIT ?= $(shell git rev-parse --short HEAD 2>/dev/null || echo unknown)
# One static binary: musl's where rustup has it, else glibc's.
MUSL = $(shell $(NEED) --target $(ARCH)-unknown-linux-musl && echo yes)
PROA := $(CURDIR)/target/release/proa
CONTAINERS = RUNTIME=$(PROA) cargo test -q -p conformance --test containers --

.PHONY: help
help: ## list the targets
	@sed -n 's/^\([a-z0-9-]*\):.*## /\1|/p' Makefile | column -t -s'|'

.PHONY: build
build: ## build target/release/proa and its containerd shim, two static binaries
	@$(NEED) $(COMPILER)
	@mkdir -p target/release
ifeq ($(MUSL),yes)
	cargo build --release --locked -p proa -p containerd-shim-proa-v2 --target $(ARCH)-unknown-linux-musl
	ln -f target/$(ARCH)-unknown-linux-musl/release/{proa,containerd-shim-proa-v2} target/release/
else
	RUSTFLAGS="-C target-feature=+crt-static" cargo build --release --locked -p proa -p containerd-shim-proa-v2 --target $(ARCH)-unknown-linux-gnu
	ln -f target/$(ARCH)-unknown-linux-gnu/release/{proa,containerd-shim-proa-v2} target/release/
endif

.PHONY: demo
demo: build ## build proa and run a container on the bundle of conformance/demo
	@$(NEED) busybox busybox-static
	PROA=$(PROA) conformance/demo/run

.PHONY: test
test: lint test-unit test-containers ## lint, unit tests, and real containers on the host's cgroups and on native v2 (root)

.PHONY: test-unit
test-unit: ## tests of the code itself
	@$(NEED) ip iproute2 nsenter util-linux /usr/include/seccomp.h libseccomp-dev
	cargo test --locked -p proa -p rootfs -p cgroup -p containerd-shim-proa-v2
	conformance/settings/native-v2 cargo test --locked -p cgroup

.PHONY: test-containers
test-containers: build ## real containers, looked at from inside and outside, in both settings
	@$(NEED) busybox busybox-static ip iproute2 ps procps setpriv util-linux newuidmap uidmap
	cargo build -q --locked -p conformance --bins
	@echo "== on the host's cgroups"; $(CONTAINERS) </dev/null
	@echo "== on native cgroup v2"; $(NATIVE) $(CONTAINERS) </dev/null
test-containers: NATIVE = conformance/settings/native-v2 env

# make test-vm [TOPICS="labels systemd:limits"] [MACHINES="v1 v2 hybrid forky"]
TOPICS ?= labels systemd update events limits resources cgroups rootless systemd:limits systemd:resources systemd:update
MACHINES ?= v1 v2 hybrid forky
.PHONY: test-vm
test-vm: build ## tests of cgroups, systemd, labels and users in emulated machines, which have all controllers and AppArmor
	@$(NEED) --target $(ARCH)-unknown-linux-musl
	@failed=; for machine in $(MACHINES); do echo "== a machine with $$machine"; \
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUNNER="$(CURDIR)/conformance/settings/vm $$machine --timeout 2400 -- env RUNTIME=$(PROA) $(CURDIR)/conformance/settings/each" \
	cargo test -q --locked -p conformance --test containers --target $(ARCH)-unknown-linux-musl -- $(TOPICS) </dev/null || failed="$$failed $$machine"; done; \
	[ -z "$$failed" ] || { echo "failed in:$$failed"; exit 1; }

# The tools are this machine's: the emulated one has no xfsprogs.
.PHONY: test-quota
test-quota: ## limits on what a container writes, by project quotas of ext4 and xfs in an emulated machine
	@$(NEED) mkfs.xfs xfsprogs
	@$(NEED) --target $(ARCH)-unknown-linux-musl
	CARGO_TARGET_X86_64_UNKNOWN_LINUX_MUSL_RUNNER="$(CURDIR)/conformance/settings/vm v2 -- env PATH=/usr/sbin:/usr/bin:/host/usr/sbin LD_LIBRARY_PATH=/host/usr/lib/$(ARCH)-linux-gnu" \
	cargo test --locked -p rootfs --lib --target $(ARCH)-unknown-linux-musl -- --ignored --nocapture more_than_the_limit

# Container engines run in a small machine of their own (settings/engines): never on this one.
# make test-containerd [RUNTIME=PATH] [SHIM=PATH] [SHIM_RUNTIME=io.containerd.runc.v2] [CONTAINERD="WORDS OF TESTS' NAMES"]
# SHIM_RUNTIME=io.containerd.runc.v2 is containerd's own shim, RUNTIME=/usr/sbin/runc the runc of that machine.
export CHURN_CONTAINERS CHURN_EXECS CHURN_SEED CRITEST
SHIM_RUNTIME ?= io.containerd.proa.v2
ENGINES = @$(NEED) busybox busybox-static unshare util-linux; $(ENGINES_BUILT) && \
	conformance/settings/engines $(MOUNTS) $(if $(RUNTIME)$(SHIM),$(foreach f,$(filter-out /usr/% $(CURDIR)/%,$(RUNTIME) $(SHIM)),--mount $f=$f)) -- $(ENGINES_RUN)
ENGINES_BUILT = bin=$$(cargo test -q --locked -p conformance --test engines --no-run --message-format=json | sed -n 's/.*"executable":"\([^"]*engines-[^"]*\)".*/\1/p') && sync
ENGINES_RUN = env RUST_BACKTRACE=0 RUNTIME=$(or $(RUNTIME),$(PROA)) SHIM=$(or $(SHIM),$(CURDIR)/target/release/containerd-shim-proa-v2) SHIM_RUNTIME=$(SHIM_RUNTIME) $$bin
.PHONY: test-containerd
test-containerd: $(if $(RUNTIME),,build) ## the shim below a real containerd, with its own client and by hand (root)
	$(ENGINES) containerd $(CONTAINERD) </dev/null

# make test-cri [RUNTIME=PATH] [SHIM=PATH] [SHIM_RUNTIME=io.containerd.runc.v2] [CRITEST="REGEX OF TESTS' NAMES"]
CRI_BUILT = $(or $(shell conformance/cri/build),$(error cannot build critest))
.PHONY: test-cri
test-cri: $(if $(RUNTIME),,build) ## Kubernetes' CRI conformance tests, critest, through containerd (root)
	$(ENGINES) cri </dev/null
test-cri: private MOUNTS = --mount $(CRI_BUILT)=$(CRI_BUILT)
test-cri: private export CRI_TOOLS = $(CRI_BUILT)

# make test-containerd-vm [CONTAINERD="WORDS OF TESTS' NAMES"], make test-cri-vm [CRITEST="REGEX OF TESTS' NAMES"]
# The same in an emulated machine with systemd, cgroup v2 with all controllers, and AppArmor; of containerd's those that
# have to do with these. RUNTIME and SHIM, if they are given, are paths of that machine, or of the checkout.
MACHINE_TESTS = a_program_prints kill_all pause a_limit metrics processes an_exec_ update_changes events_of \
	out_of_memory pod systemd shim_cgroup has_a_terminal killed_shim a_container_runs_in
MACHINE = @$(ENGINES_BUILT) && conformance/settings/vm engines --timeout 10800 $(if $(CRI_LOGS),--out $(CRI_LOGS)) -- env $(MACHINE_ENV) $(ENGINES_RUN)
.PHONY: test-containerd-vm test-cri-vm
test-containerd-vm: $(if $(RUNTIME),,build) ## the shim below containerd, in an emulated machine with systemd
	$(MACHINE) containerd $(or $(CONTAINERD),$(MACHINE_TESTS)) </dev/null
test-cri-vm: $(if $(RUNTIME),,build) ## critest through containerd with systemd's cgroups, in an emulated machine
	$(MACHINE) cri </dev/null
test-cri-vm: private MACHINE_ENV = CRI_TOOLS=$(CRI_BUILT) CRITEST='$(CRITEST)' $(if $(CRI_LOGS),CRI_LOGS=/out)

# make churn [CHURN_CONTAINERS=1000] [CHURN_EXECS=10000] [CHURN_SEED=N]
.PHONY: churn
churn: $(if $(RUNTIME),,build) ## a thousand containers below containerd, with random kills; ten thousand execs: nothing is left or grows
	$(ENGINES) containerd-churn </dev/null

.PHONY: bench-shim
bench-shim: $(if $(RUNTIME),,build) ## memory and time of the shim beside containerd's own
	$(ENGINES) containerd-bench </dev/null

# make test-podman test-docker [RUNTIME=PATH] [TESTS="WORDS OF TESTS' NAMES"]
.PHONY: test-podman test-docker
test-podman: $(if $(RUNTIME),,build) ## Podman with proa, by root and by a user
	$(ENGINES) podman $(TESTS) </dev/null
test-docker: $(if $(RUNTIME),,build) ## Docker with proa as its runtime, and with its shim
	$(ENGINES) docker $(TESTS) </dev/null
	$(ENGINES) docker-shim $(TESTS) </dev/null

# make test-network [TESTS="WORDS OF TESTS' NAMES"]
.PHONY: test-network
test-network: build ## containers run by hand on networks of CNI plugins, by proa, runc and crun (root)
	$(ENGINES) network $(TESTS) </dev/null

# make test-checkpoint [RUNTIME=PATH] [TESTS="WORDS OF TESTS' NAMES"] [PEERS=]
.PHONY: test-checkpoint test-checkpoint-vm bench-checkpoint
test-checkpoint: $(if $(RUNTIME),,build) target/probes/kept ## checkpoint and restore by CRIU, of proa beside runc and crun (root)
	$(ENGINES) checkpoint $(TESTS) </dev/null
test-checkpoint-vm: $(if $(RUNTIME),,build) target/probes/kept ## the same in an emulated machine with systemd and cgroup v2
	$(MACHINE) checkpoint $(TESTS) </dev/null
bench-checkpoint: $(if $(RUNTIME),,build) target/probes/kept ## time and size of a checkpoint and a restore beside runc and crun
	$(ENGINES) checkpoint-bench </dev/null
target/probes/kept: conformance/probe/kept.c
	@$(NEED) $(COMPILER)
	@mkdir -p target/probes
	cc -O2 -static -o $@ $<

# make test-images [RUNTIME=PATH] [TESTS="WORDS OF TESTS' NAMES"]
.PHONY: test-images
test-images: $(if $(RUNTIME),,build) ## bundles from images, beside umoci; images that lie; commands that are killed (root)
	$(ENGINES) images $(TESTS) </dev/null

# BENCH_DIR=DIRECTORY OF A DISK
BENCH_DIR ?= $(CURDIR)/target/bench-images
.PHONY: bench-images
bench-images: $(if $(RUNTIME),,build) ## time of bundles from an image of 500 MB beside umoci, and of a start on layers
	@mkdir -p $(BENCH_DIR)
	$(ENGINES) images-bench </dev/null
bench-images: private export BENCH_DIR := $(BENCH_DIR)

# make stress [SETTINGS="hybrid native-v2 vm-v2"] [STRESS="--parallel 500 --killed 200 --systemd"]
SETTINGS ?= hybrid native-v2
.PHONY: stress
stress: build ## many containers at once, and commands that are killed at any moment: nothing may be left
	@$(NEED) --target $(ARCH)-unknown-linux-musl
	@$(NEED) busybox busybox-static
	cargo build -q --locked -p conformance --bin stress --target $(ARCH)-unknown-linux-musl
	@for setting in $(SETTINGS); do echo "== $$setting"; case $$setting in \
	vm-*) run="vm $${setting#vm-} --timeout 2400 --" ;; *) run=$$setting ;; esac; \
	conformance/settings/$$run env RUNTIME=$(PROA) $(CURDIR)/target/$(ARCH)-unknown-linux-musl/debug/stress $(STRESS) </dev/null || exit; done

# make attack [RUNTIME=PATH] [SETTINGS="hybrid native-v2"] [ATTACK="ROWS"]
.PHONY: attack
attack: $(if $(RUNTIME),,build) ## the known attacks on runtimes, and which older runtimes give way to them
	@$(NEED) busybox busybox-static setpriv util-linux $(COMPILER)
	cargo build -q --locked -p conformance --bins --test attack
	@controls=$$(conformance/settings/controls | sed 's/^/--control /'); \
	for setting in $(SETTINGS); do echo "== $$setting"; \
	RUNTIME=$(or $(RUNTIME),$(PROA)) conformance/settings/$$setting cargo test -q --locked -p conformance --test attack -- $$controls $(ATTACK) </dev/null || exit; done

# make faults [SETTINGS="hybrid native-v2"] [FAULTS="--every 10 --fault kill create exec"]
.PHONY: faults
faults: build ## each system call of create, start, exec, delete and run fails, or is the last: all must be survived
	@$(NEED) busybox busybox-static
	cargo build -q --locked -p conformance --bin faults
	@for setting in $(SETTINGS); do echo "== $$setting"; \
	RUNTIME=$(PROA) conformance/settings/$$setting target/debug/faults $(FAULTS) </dev/null || exit; done

# make fuzz [FUZZ="config state seccomp words other_documents"] [FUZZ_SECONDS=600]
FUZZ ?= config state seccomp words other_documents
FUZZ_SECONDS ?= 60
CORPUS = $${PROA_CACHE:-$$HOME/.cache/proa}/fuzz
.PHONY: fuzz
fuzz: ## texts that others write, as no person would write them, with a nightly compiler and AddressSanitizer
	@$(NEED) $(COMPILER) c++ g++
	@rustup toolchain list | grep -q ^nightly || rustup toolchain install nightly --profile minimal
	@cargo fuzz --version >/dev/null 2>&1 || cargo install -q --locked cargo-fuzz
	@for target in $(FUZZ); do echo "== $$target"; mkdir -p $(CORPUS)/$$target; \
	cargo +nightly fuzz run --fuzz-dir conformance/fuzz $$target $(CORPUS)/$$target conformance/fuzz/seeds/$$target -- \
	-max_total_time=$(FUZZ_SECONDS) -max_len=20000 -timeout=10 -rss_limit_mb=2048 -print_final_stats=1 -verbosity=0 || exit; done

# make conformance [RUNTIME=PATH] [COMPARE="crun runc"] [PROGRAM="NAMES"] [REPORT=FILE.html|FILE.md] [JUNIT=FILE]
.PHONY: conformance
conformance: suite ## the OCI validation suite on the host's cgroups and on native v2 (root; see conformance/README.md)
	@RUNTIME="$(RUNTIME)" COMPARE="$(COMPARE)" PROGRAM="$(PROGRAM)" REPORT="$(REPORT)" JUNIT="$(JUNIT)" conformance/suite/run host native-v2

.PHONY: conformance-vm
conformance-vm: suite ## the OCI validation suite in emulated machines with cgroup v1 and with cgroup v2
	@RUNTIME="$(RUNTIME)" COMPARE="$(COMPARE)" PROGRAM="$(PROGRAM)" REPORT="$(REPORT)" JUNIT="$(JUNIT)" conformance/suite/run vm-v1 vm-v2

# The driver as one static binary, as it also runs in machines that have no Rust.
.PHONY: suite
suite: $(if $(RUNTIME),,build)
	@$(NEED) $(COMPILER) unshare util-linux tar tar
ifeq ($(MUSL),yes)
	cargo build -q --locked -p conformance --bin suite --target $(ARCH)-unknown-linux-musl
	@mkdir -p target/debug && ln -f target/$(ARCH)-unknown-linux-musl/debug/suite target/debug/suite
else
	RUSTFLAGS="-C target-feature=+crt-static" cargo build -q --locked -p conformance --bin suite --target $(ARCH)-unknown-linux-gnu
	@mkdir -p target/debug && ln -f target/$(ARCH)-unknown-linux-gnu/debug/suite target/debug/suite
endif

.PHONY: lint
lint: ## formatting, warnings, and the rules of the house
	@$(NEED) $(COMPILER)
	cargo fmt --all --check
	cargo clippy -q --locked --workspace --all-targets -- -D warnings
	conformance/settings/rules
	@cargo test -q --locked -p conformance --lib
	@cargo test -q --locked -p conformance --test containers -- --list >/dev/null && echo "musts.tsv: true of the tests"

.PHONY: bench
bench: build ## proa beside crun and runc: time, memory, system calls (more: bench/run --help)
	PROA=$(PROA) bench/run $(BENCH)

.PHONY: budget
budget: build ## fail if a command makes more system calls, takes more memory, or the program is larger, than it was
	PROA=$(PROA) bench/budget

.PHONY: check-aarch64
check-aarch64: ## compile for aarch64 and run the unit tests under qemu-user
	@$(NEED) --target aarch64-unknown-linux-musl
	@$(NEED) qemu-aarch64-static qemu-user-static
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_LINKER=rust-lld \
	CARGO_TARGET_AARCH64_UNKNOWN_LINUX_MUSL_RUNNER="qemu-aarch64-static" \
	cargo test --locked --target aarch64-unknown-linux-musl -p proa -p rootfs -p cgroup -p containerd-shim-proa-v2 --lib --bins -- $(AARCH64_SKIP)
# What qemu-user does not emulate: clone3, openat2, and the files of /proc of the emulated process.
AARCH64_SKIP := --skip volumes::tests --skip resolve::tests --skip tree::tests --skip devices_of_a_view --skip the_file_system_that_has_no_quotas --skip children_are_told_apart --skip a_forked_process_has_not_executed --skip parent::net_devices --skip parent::netlink

.PHONY: man
man: build ## write the man pages to target/man
	@mkdir -p target/man
	$(PROA) man > target/man/proa.1
	for c in $$($(PROA) --help | sed -n '/^COMMANDS/,/^[A-Z]* OPTIONS/s/^   \([a-z]*\( [a-z]*\)\{0,1\}\)  .*/\1/p' | tr ' ' '-'); do \
	  if $(PROA) man $$c > target/man/proa-$$c.1 2>/dev/null; then :; else rm -f target/man/proa-$$c.1; fi; done

.PHONY: install
install: man ## install both programs, man pages and completions below PREFIX
	install -D -m755 -t $(DESTDIR)$(PREFIX)/bin $(PROA) target/release/containerd-shim-proa-v2
	install -d $(DESTDIR)$(PREFIX)/share/man/man1 && install -m644 target/man/*.1 $(DESTDIR)$(PREFIX)/share/man/man1/
	install -d $(DESTDIR)$(PREFIX)/share/bash-completion/completions $(DESTDIR)$(PREFIX)/share/zsh/site-functions $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d
	$(PROA) completion bash > $(DESTDIR)$(PREFIX)/share/bash-completion/completions/proa
	$(PROA) completion zsh > $(DESTDIR)$(PREFIX)/share/zsh/site-functions/_proa
	$(PROA) completion fish > $(DESTDIR)$(PREFIX)/share/fish/vendor_completions.d/proa.fish
