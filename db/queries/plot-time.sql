-- Data of the figure time: parts of the modelled time of a step. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT 'all' AS block, c.label, sim_overhead_ns / steps / 1e6 AS overhead_ms, sim_weights_ns / steps / 1e6 AS weights_ms,
  sim_attention_ns / steps / 1e6 AS attention_ms, sim_recode_ns / steps / 1e6 AS recode_ms, sim_exposed_ns / steps / 1e6 AS stall_ms
FROM chosen c JOIN v_total t USING (run_id) WHERE steps > 0 ORDER BY c.run_id
