# Result store. SQL becomes C by embed.awk.
noinst_LTLIBRARIES += libdb.la
libdb_la_SOURCES = \
	db/store.h db/store_internal.h db/store.c db/store_admin.c db/store_batch.c db/store_image.c db/store_image.h db/store_calibration.c db/store_columns.c db/store_format.c db/store_functions.c \
	db/store_hash.c db/store_live.c db/store_lock.c db/store_merge.c db/store_query.c db/store_read.c db/store_rollup.c db/store_rows.c db/store_run.c db/store_spool.c \
	db/store_queue.c db/store_spool.h db/store_sums.h db/store_sums.c db/store_take.c
nodist_libdb_la_SOURCES = db/schema_sql.c db/rollup_sql.c db/queries_sql.c
libdb_la_CFLAGS = $(AM_CFLAGS) $(SQLITE_CFLAGS) $(XXHASH_CFLAGS)
libdb_la_LIBADD = $(SQLITE_LIBS) $(XXHASH_LIBS)

SCHEMA_SQL = db/schema.sql db/rollup.sql db/metrics.sql
QUERIES_SQL = \
	db/queries/best.sql \
	db/queries/blocks.sql \
	db/queries/by-layer.sql \
	db/queries/by-policy.sql \
	db/queries/by-role.sql \
	db/queries/calibration-errors.sql \
	db/queries/calibrations.sql \
	db/queries/decisions.sql \
	db/queries/diff.sql \
	db/queries/effects.sql \
	db/queries/env.sql \
	db/queries/error-steps.sql \
	db/queries/failures.sql \
	db/queries/formats.sql \
	db/queries/growth.sql \
	db/queries/hit-rate.sql \
	db/queries/memory.sql \
	db/queries/metrics.sql \
	db/queries/model-vs-measured.sql \
	db/queries/moves.sql \
	db/queries/params.sql \
	db/queries/pareto.sql \
	db/queries/plot-bytes-error.sql \
	db/queries/plot-error-steps.sql \
	db/queries/plot-growth.sql \
	db/queries/plot-layers.sql \
	db/queries/plot-mass-bytes.sql \
	db/queries/plot-model-measured.sql \
	db/queries/plot-pareto.sql \
	db/queries/plot-prefetch.sql \
	db/queries/plot-regret.sql \
	db/queries/plot-roles.sql \
	db/queries/plot-speedup.sql \
	db/queries/plot-tails.sql \
	db/queries/plot-time.sql \
	db/queries/plot-transfer.sql \
	db/queries/plot-wall.sql \
	db/queries/predictions.sql \
	db/queries/prefetch.sql \
	db/queries/prefill.sql \
	db/queries/regret.sql \
	db/queries/regret-by-role.sql \
	db/queries/runs.sql \
	db/queries/scenarios.sql \
	db/queries/sessions.sql \
	db/queries/settings.sql \
	db/queries/slowest.sql \
	db/queries/summary.sql \
	db/queries/tails.sql \
	db/queries/time.sql \
	db/queries/time-steps.sql \
	db/queries/transfer.sql \
	db/queries/wall.sql
EXTRA_DIST += db/embed.awk $(SCHEMA_SQL) $(QUERIES_SQL)
BUILT_SOURCES += db/schema_sql.c db/rollup_sql.c db/queries_sql.c
CLEANFILES += db/schema_sql.c db/rollup_sql.c db/queries_sql.c
db/schema_sql.c: $(SCHEMA_SQL) db/embed.awk db/local.mk
	@$(MKDIR_P) db
	$(AM_V_GEN)(cd $(srcdir) && $(AWK) -v mode=text -v array=store_schema_sql -f db/embed.awk $(SCHEMA_SQL)) \
		> $@.tmp && mv $@.tmp $@
db/rollup_sql.c: db/rollup.sql db/embed.awk db/local.mk
	@$(MKDIR_P) db
	$(AM_V_GEN)(cd $(srcdir) && $(AWK) -v mode=text -v array=store_rollup_sql -f db/embed.awk db/rollup.sql) \
		> $@.tmp && mv $@.tmp $@
db/queries_sql.c: $(QUERIES_SQL) db/embed.awk db/local.mk
	@$(MKDIR_P) db
	$(AM_V_GEN)(cd $(srcdir) && $(AWK) -v mode=queries -f db/embed.awk $(QUERIES_SQL)) > $@.tmp && mv $@.tmp $@
