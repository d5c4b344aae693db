-- Data of the figure mass-bytes: recalled mass against bytes read, one point a run, by router; line 1: budgets joined. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ','))),
p AS (
  SELECT coalesce(r.router, '-') AS router, round(100.0 * read_bytes / nullif(dense_bytes, 0), 3) AS read_pct,
    round(100 * mass_recall, 3) AS mass_recall_pct,
    (SELECT value FROM run_param b WHERE b.run_id = c.run_id AND b.key = 'router.budget') AS budget
  FROM chosen c JOIN run r USING (run_id) JOIN v_total t USING (run_id))
-- A line joins a router's runs where each has a budget of its own.
SELECT router, read_pct, mass_recall_pct,
  (SELECT count(*) > 1 AND count(DISTINCT budget) = count(*) FROM p o WHERE o.router = p.router) AS line
FROM p WHERE mass_recall_pct IS NOT NULL AND read_pct IS NOT NULL ORDER BY router, read_pct, mass_recall_pct
