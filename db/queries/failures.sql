-- Runs that failed or were cut off, and why. :run picks one run, or all.
SELECT run_id AS run, label, CASE WHEN status = 'running' AND NOT is_written() THEN 'interrupted' ELSE status END AS status,
  message, started_utc, round(wall_ns / 1e9, 3) AS wall_s
FROM v_run WHERE (status IN ('failed', 'interrupted') OR (status = 'running' AND NOT is_written()))
  AND (:run IS NULL OR :run = 'all' OR run_id = :run OR name = :run) ORDER BY run_id
