-- Bytes moved between tiers and how much of it was hidden. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT c.run_id AS run, c.label, sum(fetch_bytes) / 1048576.0 AS fetch_mib,
  sum(prefetch_bytes) / 1048576.0 AS prefetch_mib, sum(evict_bytes) / 1048576.0 AS evict_mib,
  sum(streamed_bytes) / 1048576.0 AS streamed_mib, sum(refetch_bytes) / 1048576.0 AS refetch_mib,
  sum(sim_transfer_ns) / 1e6 AS sim_transfer_ms,
  round(100 * sum(sim_hidden_ns) / nullif(sum(sim_transfer_ns), 0), 2) AS hidden_pct,
  sum(sim_exposed_ns) / 1e6 AS sim_exposed_ms,
  round(100.0 * sum(prefetch_useful) / nullif(sum(prefetch_useful + prefetch_late + prefetch_wasted), 0), 2)
    AS prefetch_useful_pct
FROM chosen c JOIN step s USING (run_id) GROUP BY c.run_id ORDER BY c.run_id
