-- Tokens, softmax mass, bytes and hits of each role. :run picks one run, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (run_id = :run OR name = :run OR :run = 'all'))
SELECT c.run_id AS run, c.label, v.kind AS role, round(100 * token_share, 2) AS token_pct,
  round(100 * mass_share, 2) AS mass_pct, round(100 * mass_recall, 2) AS mass_recall_pct,
  round(100 * selected_fraction, 2) AS selected_pct, significant(1.0 * read_bytes / steps / 1048576, 4) AS read_mib_per_step,
  round(100 * hit_rate, 2) AS hit_pct
FROM chosen c JOIN v_role v USING (run_id) ORDER BY c.run_id, mass_share DESC, kind
