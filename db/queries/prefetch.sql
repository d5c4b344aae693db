-- How the prefetcher did: pages predicted in time, late, in vain, and missing without a prediction. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, prefetch_useful AS useful_pages, prefetch_late AS late_pages, prefetch_wasted AS wasted_pages,
  prefetch_missed AS missed_pages,
  round(100.0 * prefetch_useful / nullif((prefetch_useful + prefetch_late + prefetch_wasted), 0), 2) AS precision_pct,
  round(100.0 * prefetch_useful / nullif((prefetch_useful + prefetch_late + prefetch_missed), 0), 2) AS recall_pct,
  significant(prefetch_bytes / nullif(steps, 0) / 1048576, 4) AS prefetch_mib_per_step
FROM chosen c JOIN v_total t USING (run_id) ORDER BY c.run_id
