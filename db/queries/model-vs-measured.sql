-- Modelled (all layers) beside measured (executed layers) attention time. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT c.run_id AS run, c.label, count(wall_attention_ns) AS measured_steps,
  median(CASE WHEN wall_attention_ns IS NOT NULL THEN sim_attention_ns END) / 1e6 AS sim_attention_ms,
  median(wall_attention_ns) / 1e6 AS wall_attention_ms, percentile(wall_attention_ns, 95) / 1e6 AS wall_attention_p95_ms,
  median(sim_attention_ns / nullif(wall_attention_ns, 0)) AS sim_per_wall_x,
  median(wall_dense_ns) / 1e6 AS wall_dense_ms,
  median(wall_dense_ns / nullif(wall_attention_ns, 0)) AS wall_speedup_x
FROM chosen c JOIN step s USING (run_id) GROUP BY c.run_id ORDER BY c.run_id
