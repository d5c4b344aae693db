-- Share of the stored pages in each format over decode steps. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT label, step, round(100.0 * pages_fp16 / n, 3) AS fp16_pct, round(100.0 * pages_fp8 / n, 3) AS fp8_pct,
  round(100.0 * pages_int8 / n, 3) AS int8_pct, round(100.0 * pages_int4_residual / n, 3) AS int4_residual_pct,
  round(100.0 * pages_int4 / n, 3) AS int4_pct, round(100.0 * pages_bf16 / n, 3) AS bf16_pct,
  round(100.0 * pages_kivi8 / n, 3) AS kivi8_pct, round(100.0 * pages_kivi4 / n, 3) AS kivi4_pct,
  round(100.0 * pages_kivi2 / n, 3) AS kivi2_pct, round(100.0 * pages_sparse / n, 3) AS sparse_pct
FROM (SELECT c.label, s.*, nullif(pages_fp16 + pages_fp8 + pages_int8 + pages_int4_residual + pages_int4 + coalesce(pages_bf16
    + pages_kivi8 + pages_kivi4 + pages_kivi2 + pages_sparse, 0), 0) AS n
  FROM chosen c JOIN run_series s USING (run_id)) WHERE n IS NOT NULL ORDER BY run_id, step
