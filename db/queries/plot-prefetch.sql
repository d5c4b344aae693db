-- Data of the figure prefetch: pages a step by how the prefetcher did. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT 'all' AS block, c.label, prefetch_useful / steps AS useful, prefetch_late / steps AS late, prefetch_wasted / steps AS wasted,
  prefetch_missed / steps AS missed
FROM chosen c JOIN v_total t USING (run_id)
WHERE steps > 0 AND prefetch_useful + prefetch_late + prefetch_wasted + prefetch_missed > 0 ORDER BY c.run_id
