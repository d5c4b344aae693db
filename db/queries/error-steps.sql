-- Error of the output over decode steps, means of the steps where attention ran. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.label, step, significant(rel_l2, 5) AS rel_l2, round(100 * mass_recall, 3) AS recall_pct, significant(kl, 5) AS kl_nat
FROM chosen c JOIN run_series s USING (run_id) WHERE rel_l2 IS NOT NULL ORDER BY c.run_id, step
