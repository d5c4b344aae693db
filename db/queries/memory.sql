-- Bytes in the tiers over decode steps, and how full the fast one is. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.label, step, significant(fast_bytes / 1048576, 6) AS fast_mib, significant(slow_bytes / 1048576, 6) AS slow_mib,
  round(100 * occupancy, 2) AS occupancy_pct, round(100 * pressure, 2) AS pressure_pct
FROM chosen c JOIN run_series s USING (run_id) WHERE fast_bytes > 0 ORDER BY c.run_id, step
