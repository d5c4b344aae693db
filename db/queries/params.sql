-- Settings that are not the default. :run picks one run, or all; :all=1 shows defaults too.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT c.run_id AS run, c.label, p.key, p.value, p.origin
FROM chosen c JOIN run_param p USING (run_id)
WHERE p.origin <> 'default' OR coalesce(:all, 0) <> 0 ORDER BY c.run_id, p.key
