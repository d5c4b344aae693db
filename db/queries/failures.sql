-- Runs that did not end well, of the whole file: failed, interrupted, or left by a process that died.
SELECT r.run_id AS run, r.label, CASE WHEN r.status = 'running' THEN 'interrupted' ELSE r.status END AS status, r.started_utc,
  r.ended_utc, (SELECT count(DISTINCT session) FROM step s WHERE s.run_id = r.run_id) AS sessions_begun,
  (SELECT count(*) FROM step s WHERE s.run_id = r.run_id) AS steps,
  (SELECT sum(decoded_tokens) FROM session n WHERE n.run_id = r.run_id) AS steps_of_sessions, r.host, e.command
FROM v_run r JOIN env e USING (env_id)
WHERE r.status IN ('failed', 'interrupted') OR (r.status = 'running' AND NOT is_written()) ORDER BY r.run_id
