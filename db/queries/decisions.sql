-- Why blocks were read or not: decisions by role and reason (needs the block event log). :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT c.run_id AS run, c.label, kind AS role, policy, decision, format, reason, count(*) AS decisions,
  sum(selected_tokens) AS selected_tokens, avg(score) AS mean_score
FROM chosen c JOIN block_event b USING (run_id)
GROUP BY c.run_id, kind, policy, decision, format, reason ORDER BY c.run_id, decisions DESC, kind, reason
