-- Fast-tier hits over decode steps, at most 100 points a run. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all')),
width (w) AS (
  SELECT max(1, (max(step) + 100) / 100) FROM step WHERE run_id IN (SELECT run_id FROM chosen))
SELECT c.label, step / w * w AS step,
  round(100.0 * sum(hit_pages) / nullif(sum(hit_pages + miss_pages), 0), 3) AS hit_pct
FROM chosen c CROSS JOIN width JOIN step s USING (run_id) GROUP BY c.run_id, step / w HAVING sum(hit_pages + miss_pages) > 0 ORDER BY c.run_id, 2
