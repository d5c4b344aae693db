-- Mass that each run misses and the oracle run of the same budget does not, by role. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ','))),
p AS MATERIALIZED (
  SELECT c.run_id, c.label, r.router, t.*, 100.0 * read_bytes / nullif(dense_bytes, 0) AS read_pct,
    (SELECT value FROM run_param b WHERE b.run_id = c.run_id AND b.key = 'router.budget') AS budget,
    (SELECT group_concat(key || '=' || value, ';') FROM (SELECT key, value FROM run_param b WHERE b.run_id = c.run_id
      AND key NOT LIKE 'router.%' AND key <> 'name' ORDER BY key)) AS rest
  FROM chosen c JOIN run r USING (run_id) JOIN v_total t USING (run_id) WHERE t.steps > 0),
-- The oracle run with the same settings outside the router: of the same budget, else the nearest in bytes.
pair AS MATERIALIZED (
  SELECT run_id, oracle FROM (
    SELECT p.run_id, o.run_id AS oracle, row_number() OVER (PARTITION BY p.run_id
      ORDER BY coalesce(o.budget, '') <> coalesce(p.budget, ''), abs(o.read_pct - p.read_pct), o.run_id) AS place
    FROM p JOIN p o ON o.router = 'oracle' AND o.rest = p.rest) WHERE place = 1)
SELECT p.run_id AS run, p.label, o.run_id AS oracle, v.kind AS role,
  round(100 * (v.mass - v.mass_selected) / v.steps, 3) AS missed_pp,
  round(100 * (w.mass - w.mass_selected) / w.steps, 3) AS oracle_missed_pp,
  round(100 * ((v.mass - v.mass_selected) / v.steps - (w.mass - w.mass_selected) / w.steps), 3) AS regret_pp
FROM p JOIN pair USING (run_id) JOIN p o ON o.run_id = pair.oracle JOIN run_role v ON v.run_id = p.run_id
JOIN run_role w ON w.run_id = o.run_id AND w.kind = v.kind
WHERE p.run_id <> o.run_id AND v.mass IS NOT NULL ORDER BY p.run_id, regret_pp DESC, role
