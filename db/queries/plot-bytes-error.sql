-- Data of the figure bytes-error: bytes read of dense and error of each run. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT 'all' AS block, c.label, round(100.0 * read_bytes / nullif(dense_bytes, 0), 3) AS read_pct, rel_l2_p50 AS rel_l2_median, rel_l2_p95
FROM chosen c JOIN v_total t USING (run_id) WHERE steps > 0 ORDER BY c.run_id
