-- Data of the figure mass-bytes: recalled mass against bytes read, one point a run, by router.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT coalesce(r.router, '-') AS router, round(100.0 * sum(read_bytes) / nullif(sum(dense_bytes), 0), 3) AS read_of_dense_pct,
  round(100 * avg(mass_recall), 3) AS mass_recall_pct
FROM chosen c JOIN run r USING (run_id) JOIN step s USING (run_id) GROUP BY c.run_id ORDER BY r.router, 2
