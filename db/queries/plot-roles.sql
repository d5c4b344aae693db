-- Data of the figure roles: mass of each role that was read and that was missed. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.label, v.kind AS role, 100 * mass_share * mass_recall AS read_pct, 100 * mass_share * (1 - mass_recall) AS missed_pct
FROM chosen c JOIN v_role v USING (run_id) WHERE mass_share IS NOT NULL ORDER BY c.run_id, mass_share DESC, kind
