-- Settings in which the runs differ. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT p.key, c.run_id AS run, c.label, p.value, p.origin
FROM chosen c JOIN run_param p USING (run_id)
WHERE p.key IN (SELECT key FROM run_param WHERE run_id IN (SELECT run_id FROM chosen) GROUP BY key
  HAVING count(DISTINCT value) > 1 OR count(*) < (SELECT count(*) FROM chosen))
ORDER BY p.key, c.run_id
