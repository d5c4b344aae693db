# The program.
bin_PROGRAMS += intentkv
noinst_LTLIBRARIES += libsim.la
libsim_la_SOURCES = \
	sim/scenario.c sim/scenario.h sim/scenario_parts.c sim/scenario_parts.h sim/scenario_paths.c \
	sim/scenario_override.c sim/sweep_axes.c sim/sweep_axes.h sim/sweep_range.c sim/sweep_where.c sim/sweep_key.c \
	sim/sweep_key.h sim/scenario_tables.c sim/scenario_yaml.c sim/yaml.h sim/machine.c sim/model.c sim/scenario_latent.c \
	sim/datadir.c sim/datadir.h sim/output.c sim/output.h \
	sim/keys.c sim/keys.h sim/prefill.c sim/loss.c sim/loss.h sim/loss_play.c sim/loss_play.h sim/safetensors.c sim/safetensors.h sim/safetensors_header.c sim/safetensors_header.h \
	sim/source.h sim/source_capture.c sim/source_capture.h sim/source_capture_read.c sim/source_stats.c \
	sim/source_stats.h sim/source_synthetic.c sim/source_synthetic.h sim/source_synthetic_intent.c \
	sim/source_synthetic_kv.c sim/source_synthetic_presets.c sim/source_table.c \
	sim/tokenizer.c sim/tokenizer.h sim/tokenizer_bpe.c sim/tokenizer_json.c sim/tokenizer_parts.h \
	sim/tokenizer_pattern.c sim/tokenizer_split.c sim/tokenizer_stages.c sim/tokenizer_vocab.c \
	sim/unicode_normalize.c sim/unicode_normalize.h sim/unicode_table.c sim/unicode_table.h \
	sim/run.h sim/run_begin.c sim/run_open.c sim/run_play.c sim/run_sessions.c sim/sequence.c sim/apply.c \
	sim/step.c sim/step_attend.c sim/step_decide.c sim/step_measure.c sim/step_record.c \
	sim/calibrate.h sim/calibrate_csv.c sim/calibrate_fit.c sim/calibrate_measure.c \
	sim/mrc.c sim/mrc.h sim/mrc_curve.c sim/mrc_read.c sim/bench_mrc.c sim/bench_mrc.h \
	sim/explain.c sim/explain.h sim/pairs.c sim/pairs.h sim/route_case.c sim/route_case.h sim/bench_memory.c sim/bench_policies.c sim/bench_policies.h \
	sim/bench_attention.c sim/bench_attention.h sim/bench_formats.c sim/bench_reader.c
EXTRA_DIST += sim/unicode_table.sh
libsim_la_CPPFLAGS = $(AM_CPPFLAGS) $(DATADIR_CPPFLAGS)
libsim_la_CFLAGS = $(AM_CFLAGS) $(YAML_CFLAGS) $(JANSSON_CFLAGS) $(XXHASH_CFLAGS) $(ZLIB_CFLAGS) $(ZSTD_CFLAGS) $(PCRE2_CFLAGS)
libsim_la_LIBADD = $(YAML_LIBS) $(JANSSON_LIBS) $(XXHASH_LIBS) $(ZLIB_LIBS) $(ZSTD_LIBS) $(PCRE2_LIBS) -lm
intentkv_SOURCES = \
	sim/main.c sim/command.c sim/command.h sim/command_help.c sim/command_text.h sim/command_words.c sim/cmd_manual.c sim/cmd_bench.c sim/cmd_bench.h sim/cmd_bench_attention.c sim/cmd_bench_gpu.c sim/roofline.c sim/roofline.h sim/cmd_calibrate.c sim/cmd_check.c sim/cmd_doctor.c sim/cmd_formats.c sim/cmd_import.c sim/cmd_lint.c sim/cmd_size.c \
	sim/cmd_list.c sim/cmd_mrc.c sim/plot.c sim/plot.h sim/figure.c sim/figure.h sim/cmd_report.c sim/report.h sim/report_figures.c sim/report_findings.c sim/report_table.c sim/cmd_compare.c sim/cmd_completion.c sim/cmd_explain.c sim/replay.c sim/replay.h \
	sim/cmd_generate.c sim/cmd_trace_stats.c sim/trace_print.c sim/trace_print.h sim/trace_figures.c sim/trace_figures.h \
	sim/cmd_sweep.c sim/cmd_merge.c sim/sweep_job.h sim/sweep_loop.c sim/sweep_pool.c sim/sweep_progress.c \
	sim/sweep_refine.c sim/sweep_slurm.c \
	sim/cmd_db.c sim/cmd_plot.c sim/cmd_query.c sim/cmd_route.c sim/cmd_run.c sim/cmd_runs.c
intentkv_CFLAGS = $(AM_CFLAGS) $(JANSSON_CFLAGS) $(MPI_CFLAGS)
# The engine itself and not libintentkv: a program that needs no shared library runs from this folder without libtool's
# script around it. It still uses only what that library exports (tests/cli/house.sh).
intentkv_LDADD = libsim.la libdb.la libengine.la $(MPI_LIBS)
if HAVE_MPI
intentkv_SOURCES += sim/sweep_mpi.c
EXTRA_DIST += sim/sweep_peers.c
else
intentkv_SOURCES += sim/sweep_peers.c
EXTRA_DIST += sim/sweep_mpi.c
endif

# Data files are found in the source tree first, then where they are installed.
DATADIR_CPPFLAGS = -DSRCDIR='"$(abs_srcdir)"' -DPKGDATADIR='"$(pkgdatadir)"'

# Completion and manual pages, printed by the program itself. Where it is built for another machine, configure is told
# of one of this version that runs here: NATIVE_INTENTKV.
if NATIVE
bashcompletiondir = $(datadir)/bash-completion/completions
zshcompletiondir = $(datadir)/zsh/site-functions
bashcompletion_DATA = completion/intentkv
zshcompletion_DATA = completion/_intentkv
CLEANFILES += completion/intentkv completion/_intentkv
completion/intentkv: intentkv$(EXEEXT)
	@$(MKDIR_P) completion
	$(AM_V_GEN)$(NATIVE_INTENTKV) completion bash >$@.tmp && mv $@.tmp $@
completion/_intentkv: intentkv$(EXEEXT)
	@$(MKDIR_P) completion
	$(AM_V_GEN)$(NATIVE_INTENTKV) completion zsh >$@.tmp && mv $@.tmp $@

# A page for the program and one for each command; tests/cli/manual.sh checks that none is forgotten here.
man_commands = run sweep merge runs query db plot report compare explain route import lint mrc trace-stats generate size formats \
	list check doctor bench calibrate completion manual
man_pages = man/intentkv.1 $(man_commands:%=man/intentkv-%.1)
nodist_man_MANS = $(man_pages)
CLEANFILES += $(man_pages) man/made
$(man_pages): man/made
man/made: intentkv$(EXEEXT)
	@$(MKDIR_P) man
	$(AM_V_GEN)$(NATIVE_INTENTKV) manual -o man && touch $@
endif

include sim/trace/local.mk
