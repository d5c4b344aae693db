# One Check program per module: tests/unit/test_<module>.c.
check_PROGRAMS += test_core
test_core_SOURCES = tests/unit/test_core.c tests/tap.h
test_core_CFLAGS = $(UNIT_CFLAGS)
test_core_LDADD = $(UNIT_LDADD)
TESTS += test_core

check_PROGRAMS += test_yaml
test_yaml_SOURCES = tests/unit/test_yaml.c tests/tap.h
test_yaml_CFLAGS = $(UNIT_CFLAGS)
test_yaml_LDADD = libsim.la $(UNIT_LDADD)
TESTS += test_yaml

check_PROGRAMS += test_store
test_store_SOURCES = tests/unit/test_store.c tests/unit/store_sample.h tests/tap.h
test_store_CFLAGS = $(UNIT_CFLAGS) $(SQLITE_CFLAGS)
test_store_LDADD = libdb.la $(UNIT_LDADD)
TESTS += test_store
