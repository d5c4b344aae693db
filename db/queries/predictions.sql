-- Attention time that the cost model predicts for the executed layers beside what was measured. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT c.run_id AS run, c.label, r.machine, count(*) AS measured_steps, median(sim_executed_ns) / 1e6 AS predicted_ms,
  median(wall_attention_ns) / 1e6 AS measured_ms,
  median(abs(sim_executed_ns / wall_attention_ns - 1)) * 100 AS error_median_pct,
  (median(sim_executed_ns) / median(wall_attention_ns) - 1) * 100 AS bias_pct, sum(sim_outside) AS steps_outside
FROM chosen c JOIN run r USING (run_id) JOIN step s USING (run_id)
WHERE wall_attention_ns > 0 AND sim_executed_ns > 0 GROUP BY c.run_id ORDER BY c.run_id
