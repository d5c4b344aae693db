-- Where the measured time goes: mean of each part over the steps that have it, executed layers; device: of attention, the kernels by a device's clock; mass: what the oracle is told; other: the run's time a step without all these (recording, sessions that begin). :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label,
  significant(max(mean) FILTER (WHERE t.name = 'wall_source_ns') / 1e3, 4) AS source_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_score_ns') / 1e3, 4) AS score_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_route_ns') / 1e3, 4) AS route_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_memory_ns') / 1e3, 4) AS memory_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_recode_ns') / 1e3, 4) AS recode_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_attention_ns') / 1e3, 4) AS attention_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_device_ns') / 1e3, 4) AS device_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_dense_ns') / 1e3, 4) AS dense_reference_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_mass_ns') / 1e3, 4) AS mass_us,
  significant(max(mean) FILTER (WHERE t.name = 'wall_measure_ns') / 1e3, 4) AS measure_us,
  significant((r.wall_ns - sum(total) FILTER (WHERE t.name IN ('wall_source_ns', 'wall_score_ns', 'wall_route_ns',
    'wall_memory_ns', 'wall_recode_ns', 'wall_attention_ns', 'wall_dense_ns', 'wall_mass_ns', 'wall_measure_ns')))
    / nullif(max(t.count) FILTER (WHERE t.name = 'context_tokens'), 0) / 1e3, 4) AS other_us,
  significant(r.wall_ns / 1e9, 4) AS run_s
FROM chosen c JOIN run r USING (run_id) JOIN run_stat t USING (run_id) GROUP BY c.run_id ORDER BY c.run_id
