-- Data of the figure wall: parts of the measured time of a step. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT 'all' AS block, c.label,
  coalesce(max(mean) FILTER (WHERE t.name = 'wall_source_ns') / 1e6, 0) AS source_ms,
  coalesce(max(mean) FILTER (WHERE t.name = 'wall_score_ns') / 1e6, 0)
    + coalesce(max(mean) FILTER (WHERE t.name = 'wall_route_ns') / 1e6, 0) AS decide_ms,
  coalesce(max(mean) FILTER (WHERE t.name = 'wall_memory_ns') / 1e6, 0)
    + coalesce(max(mean) FILTER (WHERE t.name = 'wall_recode_ns') / 1e6, 0) AS memory_ms,
  coalesce(max(mean) FILTER (WHERE t.name = 'wall_attention_ns') / 1e6, 0) AS attention_ms,
  coalesce(max(mean) FILTER (WHERE t.name = 'wall_mass_ns') / 1e6, 0)
    + coalesce(max(mean) FILTER (WHERE t.name = 'wall_measure_ns') / 1e6, 0) AS measure_ms
FROM chosen c JOIN run_stat t USING (run_id) GROUP BY c.run_id
HAVING max(mean) FILTER (WHERE t.name LIKE 'wall_%_ns') > 0 ORDER BY c.run_id
