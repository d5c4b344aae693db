-- All runs of the file.
SELECT r.run_id AS run, r.label AS name,
  CASE WHEN r.status = 'running' AND NOT is_written() THEN 'interrupted' ELSE r.status END AS status, r.started_utc, r.router,
  r.scorer, r.source, r.execute, r.backend, (SELECT count(*) FROM session n WHERE n.run_id = r.run_id) AS sessions,
  coalesce((SELECT count FROM run_stat t WHERE t.run_id = r.run_id AND t.name = 'context_tokens'),
    (SELECT count(*) FROM step s WHERE s.run_id = r.run_id)) AS steps, round(r.wall_ns / 1e9, 3) AS wall_s
FROM v_run r ORDER BY r.run_id
