# One build file for drover. `make help` lists what it can do.
#
# Every .c below the source folders goes into one archive; programs and tests link against it. Tests in tests/unit are
# one cmocka program per file. VARIANT builds (asan, fuzz) keep their objects apart.

CC       ?= cc
VARIANT  ?= release
BUILD    := build$(if $(filter-out release,$(VARIANT)),/$(VARIANT))
PREFIX   ?= /usr/local

# PKG_CF and PKG_LD: flags of the libraries. Made by a rule below that installs the packages first, and make starts over
# once it is there, so that one command is enough on a machine that has none of them.
ifneq ($(or $(filter-out clean help,$(MAKECMDGOALS)),$(if $(MAKECMDGOALS),,all)),)
include build/packages.mk
endif

# As many jobs as cores, unless the command line says otherwise.
ifeq ($(filter -j% --jobserver%,$(MAKEFLAGS)),)
MAKEFLAGS += -j$(shell nproc)
endif

WARN     := -Wall -Wextra -Wshadow -Wstrict-prototypes -Wmissing-prototypes -Wpointer-arith -Wundef -Werror
CFLAGS   ?= -O2 -g
FLAGS_release :=
FLAGS_asan    := -fsanitize=address,undefined -fno-sanitize-recover=undefined -fno-omit-frame-pointer -O1
FLAGS_fuzz    := -fsanitize=fuzzer-no-link,address,undefined -fno-omit-frame-pointer -O1
ALL_CFLAGS := -std=c11 -D_GNU_SOURCE -I. $(WARN) $(CFLAGS) -ffp-contract=off $(FLAGS_$(VARIANT)) $(PKG_CF) -MMD -MP

# The Python ends of check_code are part of the program.
$(BUILD)/obj/verifier/code_calls.o: $(wildcard verifier/*.py)

# The embedded model's kernels need AVX2 and explicit FMA; nothing else does.
$(BUILD)/obj/worker/tinylm.o: ALL_CFLAGS += -O3 -mavx2 -mfma

DIRS     := common common/io broker/core broker/policy broker worker verifier cli
SOURCES  := $(filter-out cli/main.c,$(foreach d,$(DIRS),$(wildcard $(d)/*.c)))
OBJECTS  := $(SOURCES:%.c=$(BUILD)/obj/%.o)
LIB      := $(BUILD)/libdrover.a
UNITS    := $(patsubst tests/unit/%.c,$(BUILD)/tests/%,$(wildcard tests/unit/test_*.c))
TOOLS    := $(patsubst tests/%.c,$(BUILD)/tests/%,$(wildcard tests/sim/sim.c tests/bench/*.c))
FUZZERS  := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/%,$(wildcard tests/fuzz/fuzz_*.c))
REPLAYS  := $(patsubst tests/fuzz/%.c,$(BUILD)/tests/replay_%,$(wildcard tests/fuzz/fuzz_*.c))

.DEFAULT_GOAL := all
.PHONY: all deps demo check check-asan check-llamacpp check-slurm check-humaneval tests-built sanitized fuzzers lint fmt bench fuzz soak install bundle clean help

all: $(BUILD)/drover                           ## build build/drover

deps:                                          ## install what the build needs (Debian packages)
	@scripts/deps

PKGS := libzmq lmdb yaml-0.1 jansson libxxhash libzstd libcurl yajl hiredis libseccomp libsodium
build/packages.mk: scripts/deps
	@scripts/deps
	@mkdir -p build
	@printf 'PKG_CF := %s\nPKG_LD := %s -lpthread -lm\n' "$$(pkg-config --cflags $(PKGS))" "$$(pkg-config --libs $(PKGS))" >$@.new
	@mv $@.new $@

$(BUILD)/drover: $(BUILD)/obj/cli/main.o $(LIB)
	@echo "  LINK $@"
	@$(CC) $(ALL_CFLAGS) $(filter %.o %.a,$^) -o $@ $(PKG_LD)

$(LIB): $(OBJECTS)
	@rm -f $@
	@ar rcs $@ $^

$(BUILD)/obj/%.o: %.c
	@mkdir -p $(@D)
	@echo "  CC   $<"
	@$(CC) $(ALL_CFLAGS) -c $< -o $@

$(BUILD)/tests/%: tests/unit/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(CC) $(ALL_CFLAGS) $< $(LIB) -o $@ -lcmocka $(PKG_LD)

$(BUILD)/tests/%: tests/%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(CC) $(ALL_CFLAGS) $< $(LIB) -o $@ $(PKG_LD)

# A fuzz target linked with a plain main that feeds it the seed corpus: what `make check` runs.
$(BUILD)/tests/replay_%: tests/fuzz/%.c tests/fuzz/replay.c $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(CC) $(ALL_CFLAGS) $< tests/fuzz/replay.c $(LIB) -o $@ $(PKG_LD)

# The same with libFuzzer's main: VARIANT=fuzz CC=clang.
$(BUILD)/tests/fuzz_%: tests/fuzz/fuzz_%.c $(LIB)
	@mkdir -p $(@D)
	@echo "  LINK $@"
	@$(CC) $(ALL_CFLAGS) -fsanitize=fuzzer $< $(LIB) -o $@ $(PKG_LD)

demo: all                                      ## the demo sweep: nine strategies on a tiny language model
	@scripts/demo

tests-built: all $(UNITS) $(TOOLS) $(REPLAYS)
sanitized: $(UNITS) $(BUILD)/tests/sim/sim $(REPLAYS)
fuzzers: $(FUZZERS)

check: tests-built                             ## every test; ends with "N passed, N failed"
	@BUILD=$(BUILD) scripts/run-tests

check-asan:                                    ## unit tests, simulation and fuzz corpora under ASan and UBSan
	@scripts/run-tests asan

check-llamacpp: all                            ## tests against a real llama.cpp (npm), beside `make check`
	@scripts/check-llamacpp

check-humaneval: all                           ## 16,400 recorded programs in the sandbox, and how fast, beside `make check`
	@scripts/check-humaneval

check-slurm: all                               ## tests on a real Slurm of three nodes, beside `make check`
	@scripts/check-slurm

lint: $(LIB)                                     ## include rule, purity of the core, formatting, static analysis
	@BUILD=$(BUILD) scripts/lint

fmt:                                           ## format every source file
	@clang-format -i $(foreach d,$(DIRS) tests/unit tests/sim tests/fuzz tests/bench,$(wildcard $(d)/*.c $(d)/*.h))

bench: tests-built                             ## measure: broker beside a bare ROUTER+LMDB probe, resume, memory, idle, Redis, streams, sandbox, policies
	@BUILD=$(BUILD) scripts/bench

fuzz:                                          ## libFuzzer on every decoder (SECONDS_EACH=60)
	@$(MAKE) --no-print-directory VARIANT=fuzz CC=clang fuzzers
	@scripts/fuzz

soak: tests-built                              ## 10,000 kill -9 cycles and long simulations
	@BUILD=$(BUILD) scripts/soak

install: all                                   ## install under PREFIX (default /usr/local)
	install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/share/drover/models $(DESTDIR)$(PREFIX)/share/drover/demo
	install -m 755 $(BUILD)/drover $(DESTDIR)$(PREFIX)/bin/drover
	install -m 644 models/tiny.tlm $(DESTDIR)$(PREFIX)/share/drover/models/
	install -m 644 demo/* $(DESTDIR)$(PREFIX)/share/drover/demo/
	install -m 644 cluster.conf $(DESTDIR)$(PREFIX)/share/drover/cluster.conf
	install -d $(DESTDIR)$(PREFIX)/share/drover/scripts/launch.d
	install -m 755 scripts/launch $(DESTDIR)$(PREFIX)/share/drover/scripts/
	install -m 644 scripts/launch.d/* $(DESTDIR)$(PREFIX)/share/drover/scripts/launch.d/

bundle: all                                    ## one tarball that runs on other distributions
	@CC="$(CC)" scripts/bundle $(BUILD)/drover $(BUILD)/drover-bundle.tar.gz

clean:                                         ## remove everything built
	rm -rf build

help:                                          ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-15s %s\n", $$1, $$2}' Makefile

-include $(OBJECTS:.o=.d) $(BUILD)/obj/cli/main.d $(wildcard $(BUILD)/tests/*.d $(BUILD)/tests/*/*.d)
