-- What each run loses against the oracle run of the same budget, by component: choice (mass), precision and choice (error), bytes, time by part. :run picks runs by number (3 or 1,4,5) or name, or all.
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
SELECT p.run_id AS run, p.label, o.run_id AS oracle, round(p.read_pct - o.read_pct, 3) AS read_pp,
  round(100 * (o.mass_recall - p.mass_recall), 3) AS missed_mass_pp, significant(p.rel_l2_p50 - o.rel_l2_p50, 4) AS rel_l2,
  significant((p.sim_attention_ns / p.steps - o.sim_attention_ns / o.steps) / 1e3, 4) AS attention_us,
  significant((p.sim_recode_ns / p.steps - o.sim_recode_ns / o.steps) / 1e3, 4) AS recode_us,
  significant((p.sim_exposed_ns / p.steps - o.sim_exposed_ns / o.steps) / 1e3, 4) AS stall_us,
  significant((p.sim_total_ns / p.steps - o.sim_total_ns / o.steps) / 1e3, 4) AS total_us
FROM p JOIN pair USING (run_id) JOIN p o ON o.run_id = pair.oracle WHERE p.run_id <> o.run_id ORDER BY p.run_id
