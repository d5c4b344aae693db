-- Data of the figure error-steps: error of the output over decode steps, runs that have any. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.label, step, rel_l2 FROM chosen c JOIN run_series s USING (run_id) WHERE rel_l2 IS NOT NULL ORDER BY c.run_id, step
