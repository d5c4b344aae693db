-- Modelled (all layers) beside measured (executed layers) attention time. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, max(count) FILTER (WHERE t.name = 'wall_attention_ns') AS measured_steps,
  max(p50) FILTER (WHERE t.name = 'sim_attention_measured_ns') / 1e6 AS sim_attention_ms,
  max(p50) FILTER (WHERE t.name = 'wall_attention_ns') / 1e6 AS wall_attention_ms,
  max(p95) FILTER (WHERE t.name = 'wall_attention_ns') / 1e6 AS wall_attention_p95_ms,
  max(p50) FILTER (WHERE t.name = 'sim_per_wall') AS sim_per_wall_x,
  max(p50) FILTER (WHERE t.name = 'wall_dense_ns') / 1e6 AS wall_dense_ms,
  max(p50) FILTER (WHERE t.name = 'wall_speedup') AS wall_speedup_x
FROM chosen c JOIN run_stat t USING (run_id) GROUP BY c.run_id ORDER BY c.run_id
