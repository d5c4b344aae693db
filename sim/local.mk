# The program.
bin_PROGRAMS += intentkv
noinst_LTLIBRARIES += libsim.la
libsim_la_SOURCES = sim/scenario_yaml.c sim/yaml.h
libsim_la_CFLAGS = $(AM_CFLAGS) $(YAML_CFLAGS) $(JANSSON_CFLAGS)
libsim_la_LIBADD = $(YAML_LIBS) $(JANSSON_LIBS) -lm
intentkv_SOURCES = sim/main.c
intentkv_LDADD = libsim.la libintentkv.la

include sim/trace/local.mk
