-- Where the modelled time of a step goes, mean of a run; stall: transfers that nothing hides. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, significant(sim_overhead_ns / steps / 1e3, 5) AS overhead_us,
  significant(sim_weights_ns / steps / 1e3, 5) AS weights_us, significant(sim_attention_ns / steps / 1e3, 5) AS attention_us,
  significant(sim_recode_ns / steps / 1e3, 5) AS recode_us, significant(sim_exposed_ns / steps / 1e3, 5) AS stall_us,
  significant(sim_total_ns / steps / 1e3, 5) AS total_us, significant(sim_dense_ns / steps / 1e3, 5) AS dense_us
FROM chosen c JOIN v_total t USING (run_id) WHERE steps > 0 ORDER BY c.run_id
