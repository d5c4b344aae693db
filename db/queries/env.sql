-- Where, when and by which program runs were made. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT e.env_id AS env, count(*) AS runs, e.utc, e.host, e.os, e.cpu, e.cores, e.memory_bytes / 1073741824.0 AS memory_gib,
  e.program, e.compiler, e.sqlite, e.command
FROM chosen c JOIN run r USING (run_id) JOIN env e USING (env_id) GROUP BY e.env_id ORDER BY e.env_id
