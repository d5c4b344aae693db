# Tests: Check programs print TAP; scripts print TAP too. See docs/testing.md.
UNIT_CFLAGS = $(AM_CFLAGS) $(CHECK_CFLAGS) -I$(srcdir)/tests
UNIT_LDADD = libengine.la $(CHECK_LIBS) -lm
if HAVE_CHECK
include tests/unit/local.mk
endif
