-- Data of the figure model-measured: attention time of the steps where it ran, means of up to 100 parts of a run. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.label, sim_attention_ns / 1e6 AS sim_attention_ms, wall_attention_ns / 1e6 AS wall_attention_ms
FROM chosen c JOIN run_series s USING (run_id)
WHERE wall_attention_ns > 0 AND sim_attention_ns > 0 ORDER BY c.run_id, step
