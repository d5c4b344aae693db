-- Runs that failed, were cut off, or were left by a process that died, of the whole file, and why.
SELECT r.run_id AS run, r.label, CASE WHEN r.status = 'running' THEN 'interrupted' ELSE r.status END AS status, r.message,
  r.started_utc, r.ended_utc, round(r.wall_ns / 1e9, 3) AS wall_s,
  (SELECT count(DISTINCT session) FROM step s WHERE s.run_id = r.run_id) AS sessions_begun,
  (SELECT count(*) FROM step s WHERE s.run_id = r.run_id) AS steps,
  (SELECT sum(decoded_tokens) FROM session n WHERE n.run_id = r.run_id) AS steps_of_sessions, r.host, e.command
FROM v_run r JOIN env e USING (env_id)
WHERE r.status IN ('failed', 'interrupted') OR (r.status = 'running' AND NOT is_written()) ORDER BY r.run_id
