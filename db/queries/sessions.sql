-- Each session of a run: size, selection and modelled time. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, n.session, n.id, n.task, n.turns, n.appended_tokens, n.decoded_tokens,
  n.longest_context, n.compactions, n.reward, s.steps, round(100.0 * s.selected_tokens / nullif(s.context_tokens, 0), 2) AS selected_pct,
  round(100 * s.mass_recall, 2) AS mass_recall_pct, significant(s.rel_l2, 4) AS rel_l2_mean, s.sim_total_ns / 1e6 AS sim_ms
FROM chosen c JOIN session n USING (run_id) LEFT JOIN run_session s ON s.run_id = n.run_id AND s.session = n.session
ORDER BY c.run_id, n.session
