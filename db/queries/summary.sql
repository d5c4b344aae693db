-- What each run selected, read, recalled, missed and would take. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all')),
s AS (
  SELECT run_id, count(*) AS steps,
    round(100.0 * sum(selected_tokens) / nullif(sum(context_tokens), 0), 2) AS selected_pct,
    round(100.0 * sum(read_bytes) / nullif(sum(dense_bytes), 0), 2) AS read_pct,
    round(100 * coalesce(avg(mass_recall) FILTER (WHERE mass_by = 'measured'), avg(mass_recall)), 2) AS recall_pct,
    significant(median(rel_l2), 4) AS rel_l2_p50, significant(percentile(rel_l2, 95), 4) AS rel_l2_p95,
    round(100.0 * sum(hit_pages) / nullif(sum(hit_pages + miss_pages), 0), 2) AS hit_pct,
    significant(avg(sim_total_ns) / 1e6, 4) AS sim_ms,
    significant(sum(sim_dense_ns) / nullif(sum(sim_total_ns), 0), 4) AS sim_speedup_x,
    significant(sum(sim_dense_ns - sim_overhead_ns - sim_weights_ns)
      / nullif(sum(sim_attention_ns + sim_recode_ns + sim_exposed_ns), 0), 4) AS kv_speedup_x,
    significant(avg(wall_dense_ns) / nullif(avg(wall_attention_ns), 0), 4) AS wall_speedup_x
  FROM step WHERE run_id IN (SELECT run_id FROM chosen) GROUP BY run_id)
SELECT c.run_id AS run, c.label, r.router,
  (SELECT coalesce(
    max(CASE WHEN key = 'router.budget' AND value <> 'none' THEN value END),
    max(CASE WHEN key = 'router.top_k_blocks' THEN value || ' blocks' END))
   FROM run_param p WHERE p.run_id = c.run_id) AS budget,
  s.steps, selected_pct, read_pct, recall_pct, rel_l2_p50, rel_l2_p95, hit_pct, sim_ms,
  sim_speedup_x, kv_speedup_x, wall_speedup_x
FROM chosen c JOIN run r USING (run_id) LEFT JOIN s USING (run_id) ORDER BY c.run_id
