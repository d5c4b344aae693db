-- Share of the stored pages in each format over decode steps. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all')),
width (w) AS (
  SELECT max(1, (max(step) + 100) / 100) FROM step WHERE run_id IN (SELECT run_id FROM chosen)),
p AS (
  SELECT c.run_id, c.label, step / w * w AS step, sum(pages_fp16) AS fp16, sum(pages_fp8) AS fp8,
    sum(pages_int8) AS int8, sum(pages_int4_residual) AS int4r, sum(pages_int4) AS int4, sum(pages_bf16) AS bf16,
    sum(pages_kivi8) AS kivi8, sum(pages_kivi4) AS kivi4, sum(pages_kivi2) AS kivi2, sum(pages_sparse) AS sparse
  FROM chosen c CROSS JOIN width JOIN step s USING (run_id) GROUP BY c.run_id, step / w)
SELECT label, step, round(100.0 * fp16 / n, 3) AS fp16_pct, round(100.0 * fp8 / n, 3) AS fp8_pct,
  round(100.0 * int8 / n, 3) AS int8_pct, round(100.0 * int4r / n, 3) AS int4_residual_pct,
  round(100.0 * int4 / n, 3) AS int4_pct, round(100.0 * bf16 / n, 3) AS bf16_pct,
  round(100.0 * kivi8 / n, 3) AS kivi8_pct, round(100.0 * kivi4 / n, 3) AS kivi4_pct,
  round(100.0 * kivi2 / n, 3) AS kivi2_pct, round(100.0 * sparse / n, 3) AS sparse_pct
FROM (SELECT *, nullif(fp16 + fp8 + int8 + int4r + int4 + bf16 + kivi8 + kivi4 + kivi2 + sparse, 0) AS n FROM p)
WHERE n IS NOT NULL ORDER BY run_id, step
