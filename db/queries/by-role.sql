-- Tokens, softmax mass, bytes and hits of each role; missed_share_pct: its share of all mass that was missed. :run picks runs by number (3 or 1,4,5) or name, or all.
WITH chosen (run_id, label) AS (
  SELECT run_id, label FROM v_latest WHERE :run IS NULL
  UNION ALL
  SELECT run_id, label FROM v_run WHERE :run IS NOT NULL AND (:run = 'all' OR name = :run OR label = :run
    OR instr(',' || :run || ',', ',' || run_id || ',')))
SELECT c.run_id AS run, c.label, v.kind AS role, round(100 * token_share, 2) AS token_pct,
  round(100 * mass_share, 2) AS mass_pct, round(100 * mass_recall, 2) AS mass_recall_pct,
  round(100 * missed_share, 2) AS missed_share_pct,
  round(100 * selected_fraction, 2) AS selected_pct, significant(1.0 * read_bytes / steps / 1048576, 4) AS read_mib_per_step,
  round(100 * hit_rate, 2) AS hit_pct
FROM chosen c JOIN v_role v USING (run_id) ORDER BY c.run_id, mass_share DESC, kind
