-- Attention time that the cost model predicts for the executed layers beside what was measured. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, r.machine, max(count) FILTER (WHERE t.name = 'prediction_error') AS measured_steps,
  max(p50) FILTER (WHERE t.name = 'sim_executed_ns') / 1e6 AS predicted_ms,
  max(p50) FILTER (WHERE t.name = 'wall_attention_ns') / 1e6 AS measured_ms,
  max(p50) FILTER (WHERE t.name = 'prediction_error') * 100 AS error_median_pct,
  (max(p50) FILTER (WHERE t.name = 'sim_executed_ns') / max(p50) FILTER (WHERE t.name = 'wall_attention_ns') - 1) * 100 AS bias_pct,
  max(total) FILTER (WHERE t.name = 'sim_outside_measured') AS steps_outside
FROM chosen c JOIN run r USING (run_id) JOIN run_stat t USING (run_id) GROUP BY c.run_id
HAVING max(count) FILTER (WHERE t.name = 'prediction_error') > 0 ORDER BY c.run_id
