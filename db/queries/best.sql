-- The best run that reads at most so much: least error, or most recalled mass where attention did not run; the oracle, which knows the future, apart. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ','))),
p AS MATERIALIZED (
  SELECT c.run_id, c.label, r.router, round(100.0 * read_bytes / nullif(dense_bytes, 0), 3) AS read_pct,
    significant(rel_l2_p50, 4) AS rel_l2_p50, significant(rel_l2_p95, 4) AS rel_l2_p95, round(100 * mass_recall, 3) AS recall_pct
  FROM chosen c JOIN run r USING (run_id) JOIN v_total t USING (run_id)),
budget (at_most_pct) AS (VALUES (1), (2), (5), (10), (20), (50), (100)),
ranked AS (
  SELECT at_most_pct, p.*, row_number() OVER (PARTITION BY at_most_pct, router = 'oracle'
    ORDER BY rel_l2_p50 IS NULL, rel_l2_p50, recall_pct DESC, read_pct, run_id) AS place
  FROM budget JOIN p ON read_pct <= at_most_pct WHERE rel_l2_p50 IS NOT NULL OR recall_pct IS NOT NULL)
SELECT at_most_pct, run_id AS run, label, router, read_pct, rel_l2_p50, recall_pct
FROM ranked WHERE place = 1 ORDER BY at_most_pct, router = 'oracle'
