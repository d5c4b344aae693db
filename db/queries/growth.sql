-- Context and what is read of it over decode steps. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.label, step, round(context_tokens) AS context_tokens, round(selected_tokens) AS selected_tokens,
  round(100 * selected_tokens / nullif(context_tokens, 0), 3) AS selected_pct,
  round(100 * read_bytes / nullif(dense_bytes, 0), 3) AS read_pct
FROM chosen c JOIN run_series s USING (run_id) ORDER BY c.run_id, step
