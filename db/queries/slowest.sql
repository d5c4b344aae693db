-- The steps with the longest modelled time; :limit (20), up to 100 a run. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, s.session, s.step, turn, context_tokens, selected_tokens, sim_total_ns / 1e6 AS sim_ms,
  sim_attention_ns / 1e6 AS sim_attention_ms, sim_exposed_ns / 1e6 AS sim_exposed_ms, miss_pages,
  wall_attention_ns / 1e6 AS wall_attention_ms
FROM chosen c JOIN run_slow w ON w.run_id = c.run_id AND w.place <= coalesce(:limit, 20)
JOIN step s ON s.run_id = w.run_id AND s.session = w.session AND s.step = w.step
ORDER BY sim_total_ns DESC, c.run_id, s.session, s.step LIMIT coalesce(:limit, 20)
