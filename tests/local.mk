# Tests: Check programs print TAP; scripts print TAP too. See docs/testing.md.
UNIT_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) -I$(srcdir)/tests
UNIT_LDADD = libengine.la $(CHECK_LIBS) -lm
if HAVE_CHECK
include tests/unit/local.mk
else
# A test run without the unit tests must not look like a passed one.
check_DATA += check-is-missing
check-is-missing:
	@echo "make check: configure found no Check (>= 0.15), so the unit tests cannot run;" >&2
	@echo "install it (Debian, Ubuntu: apt-get install check) and run configure again." >&2
	@exit 1
endif
include tests/fuzz/local.mk

# What scripts need to know of the build. Check's own limit of 4 s a test is too tight for a busy machine.
AM_TESTS_ENVIRONMENT = \
	HAVE_MPI='$(MPI_LIBS)' CC='$(CC)' NM='$(NM)' MAKE='$(MAKE)' IKV_CFLAGS='$(IKV_CFLAGS)' \
	HEADER_CPPFLAGS='-I$(abs_srcdir)/engine -I$(abs_srcdir) -I$(abs_builddir) $(CHECK_CFLAGS) $(YAML_CFLAGS) $(SQLITE_CFLAGS) $(JANSSON_CFLAGS)'; \
	CK_DEFAULT_TIMEOUT=$${CK_DEFAULT_TIMEOUT:-60}; \
	export HAVE_MPI CC NM MAKE IKV_CFLAGS HEADER_CPPFLAGS CK_DEFAULT_TIMEOUT;

# The commands that read results, and sample results for them.
check_PROGRAMS += store_driver
store_driver_SOURCES = \
	tests/cli/store_driver.c tests/unit/store_sample.h sim/cmd_db.c sim/cmd_plot.c sim/cmd_query.c sim/cmd_runs.c sim/command.c sim/command_help.c sim/command_text.h sim/datadir.c sim/figure.c sim/plot.c
store_driver_CPPFLAGS = $(AM_CPPFLAGS) $(DATADIR_CPPFLAGS) -I$(srcdir)/tests
store_driver_LDADD = libdb.la libengine.la -lm
cli_tests = tests/cli/analysis.sh tests/cli/completion.sh tests/cli/manual.sh tests/cli/bench.sh tests/cli/calibrate.sh tests/cli/query.sh tests/cli/errors.sh tests/cli/run.sh tests/cli/sweep.sh tests/cli/determinism.sh tests/cli/interrupt.sh tests/cli/shared.sh tests/cli/semantics.sh tests/cli/mrc.sh tests/cli/formats.sh tests/cli/trace_stats.sh tests/cli/latent.sh tests/cli/tutorial.sh
TESTS += $(cli_tests)
dist_check_SCRIPTS += $(cli_tests)
EXTRA_DIST += tests/errors tests/cli/tiny.yaml tests/cli/tiny.profile.yaml tests/cli/semantics.yaml tests/cli/semantics.jsonl

house_tests = tests/cli/house.sh tests/cli/install.sh tests/cli/docs.sh
TESTS += $(house_tests)
dist_check_SCRIPTS += $(house_tests)
EXTRA_DIST += tests/cli/tap.sh

# Every unit test under valgrind's memcheck.
check-valgrind: $(check_PROGRAMS)
	@command -v valgrind >/dev/null || { echo "make check-valgrind needs valgrind" >&2; exit 1; }
	CK_FORK=no CK_TIMEOUT_MULTIPLIER=30 $(MAKE) $(AM_MAKEFLAGS) check-TESTS TESTS='$(check_PROGRAMS)' \
		LOG_COMPILER='valgrind -q --error-exitcode=99 --leak-check=full'
.PHONY: check-valgrind

# Measures the policies alone; not a test.
noinst_PROGRAMS += bench_policies
bench_policies_SOURCES = tests/bench/bench_policies.c sim/bench_policies.c sim/bench_policies.h
bench_policies_CFLAGS = $(AM_CFLAGS)
bench_policies_LDADD = libengine.la

# Measures attention beside ggml's, which it builds first; not a test.
EXTRA_DIST += tests/bench/ggml_attention.sh tests/bench/ggml_attention.c \
	tests/bench/attention_by_turns.sh tests/bench/attention_by_turns.c

# Measures the recording of results; not a test.
noinst_PROGRAMS += bench_store
bench_store_SOURCES = tests/bench/bench_store.c tests/unit/store_sample.h
bench_store_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/tests
bench_store_CFLAGS = $(AM_CFLAGS) $(SQLITE_CFLAGS)
bench_store_LDADD = libdb.la libengine.la -lm

# Measures what recording costs a run; not a test.
noinst_PROGRAMS += bench_recording
bench_recording_SOURCES = tests/bench/bench_recording.c
bench_recording_LDADD = libsim.la libdb.la $(GPU_LIBS) libengine.la -lm

# Measures the named queries on a large database; not a test.
noinst_PROGRAMS += bench_queries
bench_queries_SOURCES = tests/bench/bench_queries.c tests/unit/store_sample.h
bench_queries_CPPFLAGS = $(AM_CPPFLAGS) -I$(srcdir)/tests
bench_queries_LDADD = libdb.la libengine.la -lm
