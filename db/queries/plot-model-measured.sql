-- Data of the figure model-measured: attention time of sampled steps, at most 100 points a run.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all')),
width (w) AS (
  SELECT max(1, (max(step) + 100) / 100) FROM step WHERE run_id IN (SELECT run_id FROM chosen))
SELECT c.label, median(sim_attention_ns) / 1e6 AS sim_attention_ms, median(wall_attention_ns) / 1e6 AS wall_attention_ms
FROM chosen c CROSS JOIN width JOIN step s USING (run_id)
WHERE wall_attention_ns > 0 AND sim_attention_ns > 0 GROUP BY c.run_id, step / w ORDER BY c.run_id, step / w
