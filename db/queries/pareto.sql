-- Runs by bytes read and error; pareto 1: none of the others reads less at less error. The oracle, which knows the future, is a bound and no such other: it has none. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ','))),
p AS MATERIALIZED (
  SELECT c.run_id, c.label, r.router, round(100.0 * read_bytes / nullif(dense_bytes, 0), 3) AS read_pct,
    significant(rel_l2_p50, 4) AS rel_l2_p50, significant(rel_l2_p95, 4) AS rel_l2_p95, round(100 * mass_recall, 3) AS recall_pct
  FROM chosen c JOIN run r USING (run_id) JOIN v_total t USING (run_id))
SELECT run_id AS run, label, router, read_pct, rel_l2_p50, rel_l2_p95, recall_pct,
  CASE WHEN rel_l2_p50 IS NULL OR read_pct IS NULL OR router = 'oracle' THEN NULL ELSE NOT EXISTS (
    SELECT 1 FROM p o WHERE o.router IS NOT 'oracle' AND o.read_pct <= p.read_pct AND o.rel_l2_p50 <= p.rel_l2_p50
      AND (o.read_pct < p.read_pct OR o.rel_l2_p50 < p.rel_l2_p50)) END AS pareto
FROM p ORDER BY read_pct, rel_l2_p50, run_id
