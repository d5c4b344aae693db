# Fuzzers: tests/fuzz/fuzz_<name>.c has an LLVMFuzzerTestOneInput. To add one: a line in FUZZERS and the
# three lines of its program. `make fuzz` builds them all with clang in fuzz-build/, a build of its own, and
# leaves the programs there.
FUZZERS = fuzz_option
EXTRA_PROGRAMS += $(FUZZERS)
FUZZING = $(AM_LDFLAGS) $(FUZZ_LINK)

fuzz_option_SOURCES = tests/fuzz/fuzz_option.c
fuzz_option_LDADD = libengine.la -lm
fuzz_option_LDFLAGS = $(FUZZING)

if FUZZ
fuzzers: $(FUZZERS)
else
fuzzers:
	@echo "configure with CC=clang --enable-fuzz, or use make fuzz" >&2; exit 1
endif

fuzz:
	@test -n "$(CLANG)" || { echo "make fuzz needs clang with libFuzzer (Debian, Ubuntu: clang libclang-rt-dev)" >&2; exit 1; }
	rm -rf fuzz-build
	$(MAKE) $(AM_MAKEFLAGS) distdir distdir=fuzz-build >/dev/null
	chmod -R u+w fuzz-build
	cd fuzz-build && ./configure -q --without-cuda --disable-shared --enable-static --enable-fuzz CC='$(CLANG)' CFLAGS='-g -O1'
	cd fuzz-build && $(MAKE) $(AM_MAKEFLAGS) fuzzers
	@echo "Built in fuzz-build: $(FUZZERS). Run one as: fuzz-build/fuzz_option -max_total_time=60 CORPUS-FOLDER"

distclean-local:
	rm -rf fuzz-build
.PHONY: fuzz fuzzers
