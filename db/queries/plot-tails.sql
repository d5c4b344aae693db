-- Data of the figure tails: percentiles of the modelled time of a step. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT 'all' AS block, c.label, p50 / 1e6 AS p50_ms, p95 / 1e6 AS p95_ms, p99 / 1e6 AS p99_ms, max / 1e6 AS max_ms
FROM chosen c JOIN run_stat t USING (run_id) WHERE t.name = 'sim_total_ns' AND p50 IS NOT NULL ORDER BY c.run_id
