-- What each run selected, read, recalled, missed and would take. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, r.router,
  (SELECT coalesce(
    max(CASE WHEN key = 'router.budget' AND value <> 'none' THEN value END),
    max(CASE WHEN key = 'router.top_k_blocks' THEN value || ' blocks' END))
   FROM run_param p WHERE p.run_id = c.run_id) AS budget,
  t.steps, round(100.0 * selected_tokens / nullif(context_tokens, 0), 2) AS selected_pct, round(100.0 * read_bytes / nullif(dense_bytes, 0), 2) AS read_pct,
  round(100 * mass_recall, 2) AS recall_pct, significant(rel_l2_p50, 4) AS rel_l2_p50, significant(rel_l2_p95, 4) AS rel_l2_p95,
  round(100.0 * hit_pages / nullif((hit_pages + miss_pages), 0), 2) AS hit_pct, significant(sim_total_ns / nullif(t.steps, 0) / 1e6, 4) AS sim_ms,
  significant(sim_dense_ns / nullif(sim_total_ns, 0), 4) AS sim_speedup_x,
  significant((sim_dense_ns - sim_overhead_ns - sim_weights_ns)
    / nullif(sim_attention_ns + sim_recode_ns + sim_exposed_ns, 0), 4) AS kv_speedup_x,
  significant(wall_dense_ns / nullif(wall_attention_ns, 0), 4) AS wall_speedup_x
FROM chosen c JOIN run r USING (run_id) LEFT JOIN v_total t USING (run_id) ORDER BY c.run_id
