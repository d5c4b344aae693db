-- Page moves of one step (needs record.page_events). :session (0), :step (0), :run.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT e.run_id AS run, e.session, e.step, page_group, page, move, from_format, to_format, from_tier, to_tier, bytes, significant(accesses, 4) AS accesses
FROM chosen c JOIN page_event e USING (run_id)
WHERE e.session = coalesce(:session, 0) AND e.step = coalesce(:step, 0) ORDER BY e.run_id, event_id
