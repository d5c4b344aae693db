-- Bytes moved between tiers and how much of the time was hidden, modelled and (on a device) measured. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, fetch_bytes / 1048576.0 AS fetch_mib,
  prefetch_bytes / 1048576.0 AS prefetch_mib, evict_bytes / 1048576.0 AS evict_mib,
  streamed_bytes / 1048576.0 AS streamed_mib, refetch_bytes / 1048576.0 AS refetch_mib,
  recode_bytes / 1048576.0 AS recode_mib, sim_transfer_ns / 1e6 AS sim_transfer_ms,
  round(100 * sim_hidden_ns / nullif(sim_transfer_ns, 0), 2) AS hidden_pct, sim_exposed_ns / 1e6 AS sim_exposed_ms,
  wall_transfer_ns / 1e6 AS wall_transfer_ms,
  round(100 * wall_hidden_ns / nullif(wall_transfer_ns, 0), 2) AS wall_hidden_pct, wall_exposed_ns / 1e6 AS wall_exposed_ms,
  wall_evict_ns / 1e6 AS wall_evict_ms, wall_device_ns / 1e6 AS wall_device_ms,
  round(100.0 * prefetch_useful / nullif((prefetch_useful + prefetch_late + prefetch_wasted), 0), 2) AS prefetch_useful_pct
FROM chosen c JOIN v_total t USING (run_id) ORDER BY c.run_id
