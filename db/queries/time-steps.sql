-- Where the modelled time of a step goes, over decode steps. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.label, step, sim_overhead_ns / 1e3 AS overhead_us, sim_weights_ns / 1e3 AS weights_us,
  sim_attention_ns / 1e3 AS attention_us, sim_recode_ns / 1e3 AS recode_us, sim_exposed_ns / 1e3 AS stall_us,
  sim_total_ns / 1e3 AS total_us
FROM chosen c JOIN run_series s USING (run_id) ORDER BY c.run_id, step
