-- Settings that are not the default; :all=1 shows defaults too. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, p.key, p.value, p.origin
FROM chosen c JOIN run_param p USING (run_id)
WHERE p.origin <> 'default' OR coalesce(:all, 0) <> 0 ORDER BY c.run_id, p.key
