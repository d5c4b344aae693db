-- The steps with the longest modelled time. :run picks one run, or all; :limit, default 20.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT c.run_id AS run, c.label, session, step, turn, context_tokens, selected_tokens, sim_total_ns / 1e6 AS sim_ms,
  sim_attention_ns / 1e6 AS sim_attention_ms, sim_exposed_ns / 1e6 AS sim_exposed_ms, miss_pages,
  wall_attention_ns / 1e6 AS wall_attention_ms
FROM chosen c JOIN step s USING (run_id)
ORDER BY sim_total_ns DESC, c.run_id, session, step LIMIT coalesce(:limit, 20)
