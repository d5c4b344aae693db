-- Prompts whose attention ran: modelled time of all layers, and beside the measured time of the executed ones. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, count(*) AS prompts, sum(tokens) AS tokens, max(context_tokens) AS longest_context,
  sum(sim_ns) / 1e6 AS sim_ms, sum(sim_executed_ns) / 1e6 AS sim_executed_ms, sum(wall_ns) / 1e6 AS wall_ms,
  sum(flops) / nullif(sum(wall_ns), 0) AS wall_gflops, median(rel_l2) AS rel_l2
FROM chosen c JOIN prefill p USING (run_id) GROUP BY c.run_id ORDER BY c.run_id
