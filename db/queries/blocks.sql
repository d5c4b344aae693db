-- Each decision of one step (needs record.block_events). :session (0), :step (0), :run.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT b.run_id AS run, b.session, b.step, layer, head, block, kind AS role, policy, start_token, end_token, decision, format,
  reason, significant(score, 4) AS score, rank, threshold, selected_tokens
FROM chosen c JOIN block_event b USING (run_id)
WHERE b.session = coalesce(:session, 0) AND b.step = coalesce(:step, 0) ORDER BY b.run_id, layer, head, start_token
