-- The scenarios that runs came from, word for word. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ','))),
first AS (
  SELECT r.scenario_id, min(c.run_id) AS run_id, count(*) AS runs FROM chosen c JOIN run r USING (run_id) GROUP BY r.scenario_id)
SELECT s.scenario_id AS scenario, coalesce(p.value, r.name) AS name, s.path, s.hash, f.runs, s.text
FROM first f JOIN run r USING (run_id) JOIN scenario s ON s.scenario_id = f.scenario_id
LEFT JOIN run_param p ON p.run_id = f.run_id AND p.key = 'name' ORDER BY s.scenario_id
