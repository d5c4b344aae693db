-- Data of the figure pareto: error against bytes read, one point a run, by router; then the front, without the oracle. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ','))),
p AS MATERIALIZED (
  SELECT c.run_id, c.label, r.router, round(100.0 * read_bytes / nullif(dense_bytes, 0), 3) AS read_pct,
    significant(rel_l2_p50, 4) AS rel_l2_p50, significant(rel_l2_p95, 4) AS rel_l2_p95, round(100 * mass_recall, 3) AS recall_pct
  FROM chosen c JOIN run r USING (run_id) JOIN v_total t USING (run_id)),
front AS (
  SELECT * FROM p WHERE rel_l2_p50 > 0 AND read_pct > 0 AND router IS NOT 'oracle' AND NOT EXISTS (
    SELECT 1 FROM p o WHERE o.router IS NOT 'oracle' AND o.rel_l2_p50 > 0 AND o.read_pct <= p.read_pct AND o.rel_l2_p50 <= p.rel_l2_p50
      AND (o.read_pct < p.read_pct OR o.rel_l2_p50 < p.rel_l2_p50)))
SELECT block, read_pct, rel_l2_p50, rel_l2_p95 FROM (
  SELECT 1 AS part, 'Pareto front' AS block, read_pct, rel_l2_p50, rel_l2_p95 FROM front
  UNION ALL SELECT 2, coalesce(router, '-'), read_pct, rel_l2_p50, rel_l2_p95 FROM p WHERE rel_l2_p50 > 0 AND read_pct > 0)
ORDER BY part, block, read_pct
