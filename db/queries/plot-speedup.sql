-- Data of the figure speedup: three speed-ups over dense of each run. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT 'all' AS block, c.label, sim_dense_ns / nullif(sim_total_ns, 0) AS sim_speedup,
  (sim_dense_ns - sim_overhead_ns - sim_weights_ns) / nullif(sim_attention_ns + sim_recode_ns + sim_exposed_ns, 0) AS kv_speedup,
  wall_dense_ns / nullif(wall_attention_ns, 0) AS wall_speedup
FROM chosen c JOIN v_total t USING (run_id) WHERE steps > 0 ORDER BY c.run_id
