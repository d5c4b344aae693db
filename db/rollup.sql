-- run_stat: Roll-up of a run, written when it ends: one row per metric of its steps. A metric is a column of step that is a quantity; sim_per_wall, wall_speedup (ratios of two columns in one step), sim_attention_measured_ns (steps where attention ran), prediction_error (of sim_executed_ns against wall_attention_ns, relative, unsigned), sim_outside_measured (steps that both have).
CREATE TABLE run_stat (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  name TEXT NOT NULL, -- the metric
  count INTEGER NOT NULL, -- steps that have it
  total REAL, -- sum over steps
  mean REAL, -- mean over steps
  min REAL, -- least
  p50 REAL, -- median; percentiles for what is measured, modelled times and sizes of the selection
  p95 REAL, -- 95th percentile
  p99 REAL, -- 99th percentile
  max REAL, -- greatest
  PRIMARY KEY (run_id, name)
) STRICT, WITHOUT ROWID;

-- run_series: Roll-up of a run over decode steps: means over all sessions, at most 100 rows a run, each for as many steps (a power of two).
CREATE TABLE run_series (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  step INTEGER NOT NULL, -- first decode step of the row
  steps INTEGER NOT NULL, -- rows of step in it
  context_tokens REAL, -- mean of step.context_tokens
  blocks REAL, -- mean of step.blocks
  pages REAL, -- mean of step.pages
  selected_blocks REAL, -- mean of step.selected_blocks
  selected_tokens REAL, -- mean of step.selected_tokens
  selected_pages REAL, -- mean of step.selected_pages
  pressure REAL, -- mean of step.pressure
  occupancy REAL, -- mean of step.occupancy
  dense_bytes REAL, -- mean of step.dense_bytes
  request_bytes REAL, -- mean of step.request_bytes
  read_bytes REAL, -- mean of step.read_bytes
  hit_pages REAL, -- mean of step.hit_pages
  miss_pages REAL, -- mean of step.miss_pages
  fetch_bytes REAL, -- mean of step.fetch_bytes
  prefetch_bytes REAL, -- mean of step.prefetch_bytes
  evict_bytes REAL, -- mean of step.evict_bytes
  streamed_bytes REAL, -- mean of step.streamed_bytes
  recode_bytes REAL, -- mean of step.recode_bytes
  refetch_bytes REAL, -- mean of step.refetch_bytes
  demotions REAL, -- mean of step.demotions
  promotions REAL, -- mean of step.promotions
  evictions REAL, -- mean of step.evictions
  prefetch_useful REAL, -- mean of step.prefetch_useful
  prefetch_late REAL, -- mean of step.prefetch_late
  prefetch_wasted REAL, -- mean of step.prefetch_wasted
  prefetch_missed REAL, -- mean of step.prefetch_missed
  fast_bytes REAL, -- mean of step.fast_bytes
  slow_bytes REAL, -- mean of step.slow_bytes
  pages_fp16 REAL, -- mean of step.pages_fp16
  pages_fp8 REAL, -- mean of step.pages_fp8
  pages_int8 REAL, -- mean of step.pages_int8
  pages_int4 REAL, -- mean of step.pages_int4
  pages_int4_residual REAL, -- mean of step.pages_int4_residual
  pages_bf16 REAL, -- mean of step.pages_bf16
  pages_kivi8 REAL, -- mean of step.pages_kivi8
  pages_kivi4 REAL, -- mean of step.pages_kivi4
  pages_kivi2 REAL, -- mean of step.pages_kivi2
  pages_sparse REAL, -- mean of step.pages_sparse
  sim_overhead_ns REAL, -- mean of step.sim_overhead_ns
  sim_attention_ns REAL, -- mean of step.sim_attention_ns
  sim_weights_ns REAL, -- mean of step.sim_weights_ns
  sim_recode_ns REAL, -- mean of step.sim_recode_ns
  sim_transfer_ns REAL, -- mean of step.sim_transfer_ns
  sim_hidden_ns REAL, -- mean of step.sim_hidden_ns
  sim_exposed_ns REAL, -- mean of step.sim_exposed_ns
  sim_total_ns REAL, -- mean of step.sim_total_ns
  sim_dense_ns REAL, -- mean of step.sim_dense_ns
  mass_recall REAL, -- mean of step.mass_recall
  rel_l2 REAL, -- mean of step.rel_l2
  max_abs REAL, -- mean of step.max_abs
  cosine REAL, -- mean of step.cosine
  kl REAL, -- mean of step.kl
  spec_accept REAL, -- mean of step.spec_accept
  sim_executed_ns REAL, -- mean of step.sim_executed_ns
  wall_attention_ns REAL, -- mean of step.wall_attention_ns
  wall_dense_ns REAL, -- mean of step.wall_dense_ns
  wall_score_ns REAL, -- mean of step.wall_score_ns
  wall_route_ns REAL, -- mean of step.wall_route_ns
  wall_memory_ns REAL, -- mean of step.wall_memory_ns
  wall_recode_ns REAL, -- mean of step.wall_recode_ns
  wall_source_ns REAL, -- mean of step.wall_source_ns
  wall_mass_ns REAL, -- mean of step.wall_mass_ns
  wall_measure_ns REAL, -- mean of step.wall_measure_ns
  wall_device_ns REAL, -- mean of step.wall_device_ns
  wall_transfer_ns REAL, -- mean of step.wall_transfer_ns
  wall_hidden_ns REAL, -- mean of step.wall_hidden_ns
  wall_exposed_ns REAL, -- mean of step.wall_exposed_ns
  wall_evict_ns REAL, -- mean of step.wall_evict_ns
  PRIMARY KEY (run_id, step)
) STRICT, WITHOUT ROWID;

-- run_session: Roll-up of a run by session.
CREATE TABLE run_session (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  session INTEGER NOT NULL, -- the session
  steps INTEGER NOT NULL, -- its decode steps
  context_tokens REAL, -- sum over steps
  selected_tokens REAL, -- sum over steps
  dense_bytes REAL, -- sum over steps
  read_bytes REAL, -- sum over steps
  hit_pages REAL, -- sum over steps
  miss_pages REAL, -- sum over steps
  sim_total_ns REAL, -- sum over steps
  sim_dense_ns REAL, -- sum over steps
  mass_recall REAL, -- mean over steps that have it
  rel_l2 REAL, -- mean over steps that have it
  PRIMARY KEY (run_id, session)
) STRICT, WITHOUT ROWID;

-- run_slow: The 100 steps of a run with the longest modelled time.
CREATE TABLE run_slow (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  place INTEGER NOT NULL, -- 1 is the longest
  session INTEGER NOT NULL, -- the session
  step INTEGER NOT NULL, -- the decode step
  PRIMARY KEY (run_id, place)
) STRICT, WITHOUT ROWID;

-- run_role: Roll-up of step_role: sums over the steps of a run.
CREATE TABLE run_role (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  kind TEXT NOT NULL, -- role
  steps INTEGER NOT NULL, -- steps that have it
  tokens INTEGER, -- sum over steps
  selected_tokens INTEGER, -- sum over steps
  read_bytes INTEGER, -- sum over steps
  hit_pages INTEGER, -- sum over steps
  miss_pages INTEGER, -- sum over steps
  mass REAL, -- sum over steps
  mass_selected REAL, -- sum over steps
  PRIMARY KEY (run_id, kind)
) STRICT, WITHOUT ROWID;

-- run_layer: Roll-up of step_layer: means over the steps of a run, max_abs the greatest.
CREATE TABLE run_layer (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  layer INTEGER NOT NULL, -- number of the layer in the model
  steps INTEGER NOT NULL, -- steps that have it
  selected_fraction REAL, -- mean share of the pages that attention reads
  mass_recall REAL, -- mean
  rel_l2 REAL, -- mean
  max_abs REAL, -- greatest
  cosine REAL, -- mean
  kl REAL, -- mean
  PRIMARY KEY (run_id, layer)
) STRICT, WITHOUT ROWID;

-- run_decision: Roll-up of block_event: how often which rule decided, by role.
CREATE TABLE run_decision (
  run_id INTEGER NOT NULL REFERENCES run (run_id) ON DELETE CASCADE, -- the run
  kind TEXT NOT NULL, -- role
  policy TEXT NOT NULL, -- policy of the block
  decision TEXT NOT NULL, -- what was decided
  format TEXT NOT NULL, -- format asked for
  reason TEXT NOT NULL, -- why
  decisions INTEGER NOT NULL, -- how often
  selected_tokens INTEGER, -- sum
  score REAL, -- mean of the scores that there are
  PRIMARY KEY (run_id, kind, policy, decision, format, reason)
) STRICT, WITHOUT ROWID;

-- v_dense: The newest dense run that differs from a run in nothing but its router, of runs that have one.
CREATE VIEW v_dense AS
SELECT r.run_id, max(d.run_id) AS dense_run_id FROM run r
JOIN run d ON d.scenario_id = r.scenario_id AND d.router = 'dense' AND d.status = 'done' AND d.backend = r.backend
WHERE NOT EXISTS (SELECT 1 FROM run_param a JOIN run_param b USING (key)
  WHERE a.run_id = r.run_id AND b.run_id = d.run_id AND a.value <> b.value AND key NOT LIKE 'router.%')
GROUP BY r.run_id;

-- v_total: Totals of each run from its roll-up, one row per run: sums over steps, and means or percentiles of what is measured. wall_dense_ns is the reference's time, or, where attention ran on a device and so has none, as many steps of the dense run in v_dense.
CREATE VIEW v_total AS
SELECT run_id, max(count) FILTER (WHERE name = 'context_tokens') AS steps,
  max(total) FILTER (WHERE name = 'context_tokens') AS context_tokens,
  max(total) FILTER (WHERE name = 'selected_tokens') AS selected_tokens,
  max(total) FILTER (WHERE name = 'dense_bytes') AS dense_bytes,
  max(total) FILTER (WHERE name = 'read_bytes') AS read_bytes,
  max(total) FILTER (WHERE name = 'request_bytes') AS request_bytes,
  max(total) FILTER (WHERE name = 'hit_pages') AS hit_pages,
  max(total) FILTER (WHERE name = 'miss_pages') AS miss_pages,
  max(total) FILTER (WHERE name = 'fetch_bytes') AS fetch_bytes,
  max(total) FILTER (WHERE name = 'prefetch_bytes') AS prefetch_bytes,
  max(total) FILTER (WHERE name = 'evict_bytes') AS evict_bytes,
  max(total) FILTER (WHERE name = 'streamed_bytes') AS streamed_bytes,
  max(total) FILTER (WHERE name = 'refetch_bytes') AS refetch_bytes,
  max(total) FILTER (WHERE name = 'recode_bytes') AS recode_bytes,
  max(total) FILTER (WHERE name = 'demotions') AS demotions,
  max(total) FILTER (WHERE name = 'promotions') AS promotions,
  max(total) FILTER (WHERE name = 'evictions') AS evictions,
  max(total) FILTER (WHERE name = 'prefetch_useful') AS prefetch_useful,
  max(total) FILTER (WHERE name = 'prefetch_late') AS prefetch_late,
  max(total) FILTER (WHERE name = 'prefetch_wasted') AS prefetch_wasted,
  max(total) FILTER (WHERE name = 'prefetch_missed') AS prefetch_missed,
  max(total) FILTER (WHERE name = 'sim_overhead_ns') AS sim_overhead_ns,
  max(total) FILTER (WHERE name = 'sim_attention_ns') AS sim_attention_ns,
  max(total) FILTER (WHERE name = 'sim_weights_ns') AS sim_weights_ns,
  max(total) FILTER (WHERE name = 'sim_recode_ns') AS sim_recode_ns,
  max(total) FILTER (WHERE name = 'sim_transfer_ns') AS sim_transfer_ns,
  max(total) FILTER (WHERE name = 'sim_hidden_ns') AS sim_hidden_ns,
  max(total) FILTER (WHERE name = 'sim_exposed_ns') AS sim_exposed_ns,
  max(total) FILTER (WHERE name = 'sim_total_ns') AS sim_total_ns,
  max(total) FILTER (WHERE name = 'sim_dense_ns') AS sim_dense_ns,
  max(mean) FILTER (WHERE name = 'mass_recall') AS mass_recall,
  max(count) FILTER (WHERE name = 'rel_l2') AS measured_steps,
  max(p50) FILTER (WHERE name = 'rel_l2') AS rel_l2_p50, max(p95) FILTER (WHERE name = 'rel_l2') AS rel_l2_p95,
  max(p50) FILTER (WHERE name = 'sim_total_ns') AS sim_total_p50_ns, max(p99) FILTER (WHERE name = 'sim_total_ns') AS sim_total_p99_ns,
  max(total) FILTER (WHERE name = 'wall_attention_ns') AS wall_attention_ns,
  coalesce(max(total) FILTER (WHERE name = 'wall_dense_ns'),
    max(count) FILTER (WHERE name = 'wall_attention_ns') * (SELECT mean FROM run_stat d
      WHERE d.name = 'wall_attention_ns' AND d.run_id = (SELECT dense_run_id FROM v_dense v WHERE v.run_id = run_stat.run_id)))
    AS wall_dense_ns,
  max(count) FILTER (WHERE name = 'wall_transfer_ns') AS transfer_steps,
  max(total) FILTER (WHERE name = 'wall_device_ns') AS wall_device_ns,
  max(total) FILTER (WHERE name = 'wall_transfer_ns') AS wall_transfer_ns,
  max(total) FILTER (WHERE name = 'wall_hidden_ns') AS wall_hidden_ns,
  max(total) FILTER (WHERE name = 'wall_exposed_ns') AS wall_exposed_ns,
  max(total) FILTER (WHERE name = 'wall_evict_ns') AS wall_evict_ns
FROM run_stat GROUP BY run_id;

-- v_role: Per run and role: shares of tokens, of dense softmax mass and of bytes, over all steps that have them.
CREATE VIEW v_role AS
SELECT run_id, kind, steps, tokens, selected_tokens,
  1.0 * tokens / nullif(sum(tokens) OVER (PARTITION BY run_id), 0) AS token_share,
  mass / nullif(sum(mass) OVER (PARTITION BY run_id), 0) AS mass_share,
  mass_selected / nullif(mass, 0) AS mass_recall,
  (mass - mass_selected) / nullif(sum(mass - mass_selected) OVER (PARTITION BY run_id), 0) AS missed_share,
  1.0 * selected_tokens / nullif(tokens, 0) AS selected_fraction, read_bytes,
  1.0 * read_bytes / nullif(sum(read_bytes) OVER (PARTITION BY run_id), 0) AS read_share, hit_pages, miss_pages,
  1.0 * hit_pages / nullif(hit_pages + miss_pages, 0) AS hit_rate
FROM run_role;

-- v_layer: Per run and layer: selection, recalled mass and error, means over steps.
CREATE VIEW v_layer AS
SELECT run_id, layer, steps, selected_fraction, mass_recall, rel_l2, max_abs, cosine, kl FROM run_layer;
