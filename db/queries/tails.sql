-- Median, 95th and 99th percentile and maximum of a step's times, error and recall. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, t.name AS metric, coalesce(d.unit, CASE WHEN t.name LIKE '%_ns' THEN 'ns' ELSE '1' END) AS unit,
  t.count AS steps, significant(p50, 4) AS p50, significant(p95, 4) AS p95, significant(p99, 4) AS p99,
  significant(max, 4) AS max
FROM chosen c JOIN run_stat t USING (run_id) LEFT JOIN metric_def d ON d.table_name = 'step' AND d.name = t.name
WHERE p50 IS NOT NULL ORDER BY c.run_id, t.name
