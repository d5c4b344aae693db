-- Selection, recalled mass and error of each executed layer. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, layer, steps, round(100 * selected_fraction, 2) AS selected_pages_pct,
  round(100 * mass_recall, 2) AS mass_recall_pct, significant(rel_l2, 4) AS rel_l2,
  significant(max_abs, 4) AS max_abs, significant(cosine, 6) AS cosine, significant(kl, 4) AS kl_nat
FROM chosen c JOIN v_layer USING (run_id) ORDER BY c.run_id, layer
