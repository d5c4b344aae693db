-- Bytes, recalled mass, error, hits and speed-ups by router; the error is the median of the runs' medians. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT r.router, count(*) AS runs, sum(t.steps) AS steps,
  significant(sum(read_bytes) / sum(t.steps) / 1048576, 4) AS read_mib_per_step,
  round(100.0 * sum(read_bytes) / nullif(sum(dense_bytes), 0), 2) AS read_pct,
  round(100 * sum(mass_recall * t.steps) / nullif(sum(t.steps) FILTER (WHERE mass_recall IS NOT NULL), 0), 2)
    AS mass_recall_pct,
  significant(median(rel_l2_p50), 4) AS rel_l2_median,
  round(100.0 * sum(hit_pages) / nullif(sum(hit_pages + miss_pages), 0), 2) AS hit_pct,
  significant(sum(sim_dense_ns) / nullif(sum(sim_total_ns), 0), 4) AS sim_speedup_x,
  significant(sum(sim_dense_ns - sim_overhead_ns - sim_weights_ns)
    / nullif(sum(sim_attention_ns + sim_recode_ns + sim_exposed_ns), 0), 4) AS kv_speedup_x,
  significant(sum(wall_dense_ns) / nullif(sum(wall_attention_ns), 0), 4) AS wall_speedup_x
FROM chosen c JOIN run r USING (run_id) JOIN v_total t USING (run_id) WHERE t.steps > 0 GROUP BY r.router ORDER BY r.router
