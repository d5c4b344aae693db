-- Why blocks were read or not: decisions by role and reason (needs record.block_events). :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, kind AS role, policy, decision, format, reason, decisions, selected_tokens,
  significant(score, 4) AS mean_score
FROM chosen c JOIN run_decision d USING (run_id) ORDER BY c.run_id, decisions DESC, kind, reason
