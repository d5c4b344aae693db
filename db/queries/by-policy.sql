-- Bytes, recalled mass, error, hits and speed-ups by router. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT r.router, count(DISTINCT run_id) AS runs, count(*) AS steps,
  significant(avg(read_bytes) / 1048576, 4) AS read_mib_per_step,
  round(100.0 * sum(read_bytes) / nullif(sum(dense_bytes), 0), 2) AS read_pct,
  round(100 * coalesce(avg(mass_recall) FILTER (WHERE mass_by = 'measured'), avg(mass_recall)), 2) AS mass_recall_pct, significant(median(rel_l2), 4) AS rel_l2_median,
  round(100.0 * sum(hit_pages) / nullif(sum(hit_pages + miss_pages), 0), 2) AS hit_pct,
  significant(sum(sim_dense_ns) / nullif(sum(sim_total_ns), 0), 4) AS sim_speedup_x,
  significant(sum(sim_dense_ns - sim_overhead_ns - sim_weights_ns)
    / nullif(sum(sim_attention_ns + sim_recode_ns + sim_exposed_ns), 0), 4) AS kv_speedup_x,
  significant(avg(wall_dense_ns) / nullif(avg(wall_attention_ns), 0), 4) AS wall_speedup_x
FROM chosen c JOIN run r USING (run_id) JOIN step s USING (run_id) GROUP BY r.router ORDER BY r.router
