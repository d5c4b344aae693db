-- Each session of a run: size, selection and modelled time. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT c.run_id AS run, c.label, n.session, n.id, n.task, n.turns, n.appended_tokens, n.decoded_tokens,
  n.longest_context, n.compactions, n.reward, count(s.step) AS steps,
  round(100.0 * sum(s.selected_tokens) / nullif(sum(s.context_tokens), 0), 2) AS selected_pct,
  round(100 * coalesce(avg(s.mass_recall) FILTER (WHERE s.mass_by = 'measured'), avg(s.mass_recall)), 2) AS mass_recall_pct, sum(s.sim_total_ns) / 1e6 AS sim_ms
FROM chosen c JOIN session n USING (run_id) LEFT JOIN step s ON s.run_id = n.run_id AND s.session = n.session
GROUP BY c.run_id, n.session ORDER BY c.run_id, n.session
