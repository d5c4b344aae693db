-- Settings that are not the default and the same in all runs. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT p.key, min(p.value) AS value, min(p.origin) AS origin
FROM chosen c JOIN run_param p USING (run_id)
GROUP BY p.key HAVING count(DISTINCT p.value) = 1 AND count(*) = (SELECT count(*) FROM chosen) AND min(p.origin) <> 'default'
ORDER BY p.key
