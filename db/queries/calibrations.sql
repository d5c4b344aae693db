-- Fits of the cost model in this database, newest last; errors are of predictions for calls that were held out.
SELECT calibration_id AS calibration, machine, c.utc, cpu, backend, isa, threads, cells, held_cells,
  fit_error_pct, held_error_pct, held_median_pct
FROM calibration c JOIN env USING (env_id) ORDER BY calibration_id
