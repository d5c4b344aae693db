-- What each run selected, read, recalled, missed and would take. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all')),
s AS (
  SELECT run_id, count(*) AS steps,
    round(100.0 * sum(selected_tokens) / nullif(sum(context_tokens), 0), 2) AS selected_pct,
    round(100.0 * sum(read_bytes) / nullif(sum(dense_bytes), 0), 2) AS read_of_dense_pct,
    round(100 * avg(mass_recall), 2) AS mass_recall_pct,
    median(rel_l2) AS rel_l2_median, percentile(rel_l2, 95) AS rel_l2_p95,
    round(100.0 * sum(hit_pages) / nullif(sum(hit_pages + miss_pages), 0), 2) AS hit_pct,
    avg(sim_total_ns) / 1e6 AS sim_ms_per_step,
    round(sum(sim_dense_ns) / nullif(sum(sim_total_ns), 0), 3) AS sim_speedup_x,
    avg(wall_attention_ns) / 1e6 AS wall_attention_ms
  FROM step WHERE run_id IN (SELECT run_id FROM chosen) GROUP BY run_id)
SELECT c.run_id AS run, c.label, r.router,
  (SELECT coalesce(
    max(CASE WHEN key = 'router.budget' AND value <> 'none' THEN value END),
    max(CASE WHEN key = 'router.top_k_blocks' THEN value || ' blocks' END))
   FROM run_param p WHERE p.run_id = c.run_id) AS budget,
  s.steps, selected_pct, read_of_dense_pct, mass_recall_pct, rel_l2_median, rel_l2_p95, hit_pct, sim_ms_per_step,
  sim_speedup_x, wall_attention_ms
FROM chosen c JOIN run r USING (run_id) LEFT JOIN s USING (run_id) ORDER BY c.run_id
