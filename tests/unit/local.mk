# One Check program per module: tests/unit/test_<module>.c.
check_PROGRAMS += test_core
test_core_SOURCES = tests/unit/test_core.c tests/tap.h
test_core_CFLAGS = $(UNIT_CFLAGS)
test_core_LDADD = $(UNIT_LDADD)
TESTS += test_core
check_PROGRAMS += test_format test_exact test_attn
test_format_SOURCES = tests/unit/test_format.c tests/tap.h
test_format_CFLAGS = $(UNIT_CFLAGS)
test_format_LDADD = $(UNIT_LDADD)
test_exact_SOURCES = tests/unit/test_exact.c tests/tap.h
test_exact_CFLAGS = $(UNIT_CFLAGS)
test_exact_LDADD = $(UNIT_LDADD)
test_attn_SOURCES = tests/unit/test_attn.c tests/tap.h
test_attn_CFLAGS = $(UNIT_CFLAGS)
test_attn_LDADD = $(UNIT_LDADD)
TESTS += test_format test_exact test_attn
