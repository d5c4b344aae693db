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

check_PROGRAMS += test_layout
test_layout_SOURCES = tests/unit/test_layout.c tests/tap.h
test_layout_CFLAGS = $(UNIT_CFLAGS)
test_layout_LDADD = $(UNIT_LDADD)
TESTS += test_layout

check_PROGRAMS += test_plan
test_plan_SOURCES = tests/unit/test_plan.c tests/tap.h
test_plan_CFLAGS = $(UNIT_CFLAGS)
test_plan_LDADD = $(UNIT_LDADD)
TESTS += test_plan

check_PROGRAMS += test_router
test_router_SOURCES = tests/unit/test_router.c tests/tap.h
test_router_CFLAGS = $(UNIT_CFLAGS)
test_router_LDADD = $(UNIT_LDADD)
TESTS += test_router

check_PROGRAMS += test_scorer
test_scorer_SOURCES = tests/unit/test_scorer.c tests/tap.h
test_scorer_CFLAGS = $(UNIT_CFLAGS)
test_scorer_LDADD = $(UNIT_LDADD)
TESTS += test_scorer

check_PROGRAMS += test_routing
test_routing_SOURCES = tests/golden/test_routing.c tests/tap.h
test_routing_CFLAGS = $(UNIT_CFLAGS) $(JANSSON_CFLAGS) -DSRCDIR='"$(abs_srcdir)"'
test_routing_LDADD = $(UNIT_LDADD) $(JANSSON_LIBS)
TESTS += test_routing

check_PROGRAMS += test_route_case
test_route_case_SOURCES = \
	tests/unit/test_route_case.c tests/tap.h sim/route_case.c sim/route_case.h sim/scenario_yaml.c sim/yaml.h
test_route_case_CFLAGS = $(UNIT_CFLAGS) $(YAML_CFLAGS) $(JANSSON_CFLAGS)
test_route_case_LDADD = $(UNIT_LDADD) $(YAML_LIBS) $(JANSSON_LIBS)
TESTS += test_route_case
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
check_PROGRAMS += test_store
test_store_SOURCES = tests/unit/test_store.c tests/unit/store_sample.h tests/tap.h
test_store_CFLAGS = $(UNIT_CFLAGS) $(SQLITE_CFLAGS)
test_store_LDADD = libdb.la $(UNIT_LDADD)
TESTS += test_store
SIM_TEST_LDADD = libsim.la $(UNIT_LDADD)
check_PROGRAMS += test_session test_import test_generate
test_session_SOURCES = tests/unit/test_session.c tests/tap.h
test_session_CFLAGS = $(UNIT_CFLAGS)
test_session_LDADD = $(SIM_TEST_LDADD)
test_import_SOURCES = tests/unit/test_import.c tests/tap.h
test_import_CFLAGS = $(UNIT_CFLAGS)
test_import_LDADD = $(SIM_TEST_LDADD)
test_generate_SOURCES = tests/unit/test_generate.c tests/tap.h
test_generate_CFLAGS = $(UNIT_CFLAGS)
test_generate_LDADD = $(SIM_TEST_LDADD)
TESTS += test_session test_import test_generate
check_PROGRAMS += test_stats
test_stats_SOURCES = tests/unit/test_stats.c tests/tap.h
test_stats_CFLAGS = $(UNIT_CFLAGS)
test_stats_LDADD = $(SIM_TEST_LDADD)
TESTS += test_stats
check_PROGRAMS += test_import_logs
test_import_logs_SOURCES = tests/unit/test_import_logs.c tests/unit/trace_text.h tests/tap.h
test_import_logs_CFLAGS = $(UNIT_CFLAGS) $(ZLIB_CFLAGS) $(ZSTD_CFLAGS)
test_import_logs_LDADD = $(SIM_TEST_LDADD) $(ZLIB_LIBS) $(ZSTD_LIBS)
TESTS += test_import_logs
check_PROGRAMS += test_reblock
test_reblock_SOURCES = tests/unit/test_reblock.c tests/unit/trace_text.h tests/tap.h
test_reblock_CFLAGS = $(UNIT_CFLAGS)
test_reblock_LDADD = $(SIM_TEST_LDADD)
TESTS += test_reblock
check_PROGRAMS += test_import_text
test_import_text_SOURCES = tests/unit/test_import_text.c tests/unit/trace_text.h tests/tap.h
test_import_text_CFLAGS = $(UNIT_CFLAGS)
test_import_text_LDADD = $(SIM_TEST_LDADD)
TESTS += test_import_text
check_PROGRAMS += test_safetensors
test_safetensors_SOURCES = tests/unit/test_safetensors.c tests/tap.h
test_safetensors_CFLAGS = $(UNIT_CFLAGS)
test_safetensors_LDADD = libsim.la $(UNIT_LDADD)
TESTS += test_safetensors

check_PROGRAMS += test_capture
test_capture_SOURCES = tests/unit/test_capture.c tests/tap.h
test_capture_CFLAGS = $(UNIT_CFLAGS) -DSRCDIR='"$(abs_srcdir)"'
test_capture_LDADD = libsim.la $(UNIT_LDADD)
TESTS += test_capture

check_PROGRAMS += test_synthetic
test_synthetic_SOURCES = tests/unit/test_synthetic.c tests/tap.h
test_synthetic_CFLAGS = $(UNIT_CFLAGS)
test_synthetic_LDADD = libsim.la $(UNIT_LDADD)
TESTS += test_synthetic

# Statistics of a source, for docs/source-statistics.sh.
check_PROGRAMS += bench_source_statistics
bench_source_statistics_SOURCES = tests/bench/source_statistics.c
bench_source_statistics_CFLAGS = $(AM_CFLAGS)
bench_source_statistics_LDADD = libsim.la libengine.la -lm
check_PROGRAMS += test_memory test_memory_sessions test_prefetch test_specattn test_cost test_rope test_prefetch_cost
test_memory_SOURCES = tests/unit/test_memory.c tests/unit/memory_rig.h tests/tap.h
test_memory_CFLAGS = $(UNIT_CFLAGS)
test_memory_LDADD = $(UNIT_LDADD)
test_memory_sessions_SOURCES = tests/unit/test_memory_sessions.c tests/unit/memory_rig.h tests/tap.h
test_memory_sessions_CFLAGS = $(UNIT_CFLAGS)
test_memory_sessions_LDADD = $(UNIT_LDADD)
test_prefetch_SOURCES = tests/unit/test_prefetch.c tests/tap.h
test_prefetch_CFLAGS = $(UNIT_CFLAGS)
test_prefetch_LDADD = $(UNIT_LDADD)
test_specattn_SOURCES = tests/unit/test_specattn.c tests/tap.h
test_specattn_CFLAGS = $(UNIT_CFLAGS)
test_specattn_LDADD = $(UNIT_LDADD)
test_cost_SOURCES = tests/unit/test_cost.c tests/tap.h
test_cost_CFLAGS = $(UNIT_CFLAGS)
test_cost_LDADD = $(UNIT_LDADD)
test_rope_SOURCES = tests/unit/test_rope.c tests/tap.h
test_rope_CFLAGS = $(UNIT_CFLAGS)
test_rope_LDADD = $(UNIT_LDADD)
test_prefetch_cost_SOURCES = tests/golden/test_prefetch_cost.c tests/tap.h
test_prefetch_cost_CFLAGS = $(UNIT_CFLAGS) $(JANSSON_CFLAGS)
test_prefetch_cost_LDADD = $(UNIT_LDADD) $(JANSSON_LIBS)
TESTS += test_memory test_memory_sessions test_prefetch test_specattn test_cost test_rope test_prefetch_cost

check_PROGRAMS += test_residency test_mrc
test_residency_SOURCES = tests/unit/test_residency.c tests/tap.h
test_residency_CFLAGS = $(UNIT_CFLAGS)
test_residency_LDADD = $(UNIT_LDADD)
test_mrc_SOURCES = tests/unit/test_mrc.c tests/unit/naive_residency.c tests/unit/naive_residency.h tests/tap.h
test_mrc_CFLAGS = $(UNIT_CFLAGS)
test_mrc_LDADD = libsim.la $(UNIT_LDADD)
TESTS += test_residency test_mrc
check_PROGRAMS += test_tokenizer
test_tokenizer_SOURCES = tests/unit/test_tokenizer.c tests/tap.h
test_tokenizer_CFLAGS = $(UNIT_CFLAGS) $(JANSSON_CFLAGS) -DSRCDIR='"$(abs_srcdir)"'
test_tokenizer_LDADD = $(SIM_TEST_LDADD) $(JANSSON_LIBS)
TESTS += test_tokenizer
EXTRA_DIST += tests/unit/tokenizer

check_PROGRAMS += test_unicode_normalize
test_unicode_normalize_SOURCES = tests/unit/test_unicode_normalize.c tests/tap.h
test_unicode_normalize_CFLAGS = $(UNIT_CFLAGS)
test_unicode_normalize_LDADD = libsim.la $(UNIT_LDADD)
TESTS += test_unicode_normalize
check_PROGRAMS += test_gpu
test_gpu_SOURCES = tests/unit/test_gpu.c gpu/split.c gpu/split.h gpu/gpu_tile.c gpu/gpu_tile.h gpu/mla_tile.c gpu/mla_tile.h tests/tap.h
test_gpu_CFLAGS = $(UNIT_CFLAGS)
test_gpu_LDADD = $(UNIT_LDADD)
TESTS += test_gpu
