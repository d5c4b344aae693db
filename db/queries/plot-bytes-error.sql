-- Data of the figure bytes-error: bytes read of dense and error of each run.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT 'all' AS block, c.label, round(100.0 * sum(read_bytes) / nullif(sum(dense_bytes), 0), 3) AS read_pct,
  median(rel_l2) AS rel_l2_median, percentile(rel_l2, 95) AS rel_l2_p95
FROM chosen c JOIN step s USING (run_id) GROUP BY c.run_id ORDER BY c.run_id
