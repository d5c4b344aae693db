-- Data of the figure transfer: bytes moved a step, by kind of move. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT 'all' AS block, c.label, fetch_bytes / steps / 1048576 AS fetch_mib, prefetch_bytes / steps / 1048576 AS prefetch_mib,
  evict_bytes / steps / 1048576 AS evict_mib, (streamed_bytes + refetch_bytes) / steps / 1048576 AS streamed_mib,
  recode_bytes / steps / 1048576 AS recode_mib
FROM chosen c JOIN v_total t USING (run_id) WHERE steps > 0 ORDER BY c.run_id
