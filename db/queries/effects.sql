-- What each swept setting does: means over the runs that have a value. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT p.key, p.value, count(*) AS runs, round(100.0 * sum(read_bytes) / nullif(sum(dense_bytes), 0), 2) AS read_pct,
  round(100 * avg(mass_recall), 2) AS recall_pct, significant(avg(rel_l2_p50), 4) AS rel_l2_p50,
  round(100.0 * sum(hit_pages) / nullif(sum(hit_pages + miss_pages), 0), 2) AS hit_pct,
  significant(sum(sim_total_ns) / nullif(sum(t.steps), 0) / 1e6, 4) AS sim_ms
FROM chosen c JOIN run_param p USING (run_id) JOIN v_total t USING (run_id)
WHERE p.origin = 'sweep' GROUP BY p.key, p.value ORDER BY p.key, min(c.run_id)
