-- Data of the figure layers: recalled mass of each executed layer, where there are several. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.label, layer, 100 * mass_recall AS mass_recall_pct, rel_l2
FROM chosen c JOIN v_layer USING (run_id) WHERE mass_recall IS NOT NULL
  AND (SELECT count(*) FROM run_layer n WHERE n.run_id = c.run_id) > 1 ORDER BY c.run_id, layer
