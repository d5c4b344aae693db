# Fuzzers: tests/fuzz/fuzz_<name>.c has an LLVMFuzzerTestOneInput. To add one: a line in FUZZERS and the
# lines of its program and of its replay. `make fuzz` builds them all with clang in fuzz-build/, a build of its own, and
# leaves the programs there.
FUZZERS = fuzz_option fuzz_import fuzz_safetensors fuzz_tokenizer fuzz_yaml
EXTRA_PROGRAMS += $(FUZZERS)
FUZZING = $(AM_LDFLAGS) $(FUZZ_LINK)

fuzz_option_SOURCES = tests/fuzz/fuzz_option.c
fuzz_option_LDADD = libengine.la -lm
fuzz_option_LDFLAGS = $(FUZZING)
fuzz_import_SOURCES = tests/fuzz/fuzz_import.c
fuzz_import_LDADD = libsim.la libengine.la -lm
fuzz_import_LDFLAGS = $(FUZZING)
fuzz_safetensors_SOURCES = tests/fuzz/fuzz_safetensors.c
fuzz_safetensors_LDADD = libsim.la libengine.la -lm
fuzz_safetensors_LDFLAGS = $(FUZZING)
fuzz_tokenizer_SOURCES = tests/fuzz/fuzz_tokenizer.c
fuzz_tokenizer_LDADD = libsim.la libengine.la -lm
fuzz_tokenizer_LDFLAGS = $(FUZZING)
fuzz_yaml_SOURCES = tests/fuzz/fuzz_yaml.c
fuzz_yaml_LDADD = libsim.la libengine.la -lm
fuzz_yaml_LDFLAGS = $(FUZZING)

# Their corpora, tests/fuzz/corpus/<name>, in every `make check`.
replays = replay_import replay_option replay_safetensors replay_tokenizer replay_yaml
check_PROGRAMS += $(replays)
TESTS += $(replays)
replay_import_SOURCES = tests/fuzz/fuzz_import.c tests/fuzz/replay.c
replay_import_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"import"'
replay_import_LDADD = libsim.la libengine.la -lm
replay_option_SOURCES = tests/fuzz/fuzz_option.c tests/fuzz/replay.c
replay_option_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"option"'
replay_option_LDADD = libengine.la -lm
replay_safetensors_SOURCES = tests/fuzz/fuzz_safetensors.c tests/fuzz/replay.c
replay_safetensors_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"safetensors"'
replay_safetensors_LDADD = libsim.la libengine.la -lm
replay_tokenizer_SOURCES = tests/fuzz/fuzz_tokenizer.c tests/fuzz/replay.c
replay_tokenizer_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"tokenizer"'
replay_tokenizer_LDADD = libsim.la libengine.la -lm
replay_yaml_SOURCES = tests/fuzz/fuzz_yaml.c tests/fuzz/replay.c
replay_yaml_CPPFLAGS = $(AM_CPPFLAGS) -DCORPUS='"yaml"'
replay_yaml_LDADD = libsim.la libengine.la -lm
EXTRA_DIST += tests/fuzz/corpus

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
