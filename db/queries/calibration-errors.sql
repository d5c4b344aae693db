-- Errors of a calibration's predictions by shape and format, calls that were held out. :calibration picks one, else the newest.
SELECT shape, format, count(*) AS calls, avg(abs(predicted_ns / measured_ns - 1)) * 100 AS error_pct,
  median(abs(predicted_ns / measured_ns - 1)) * 100 AS median_pct, max(abs(predicted_ns / measured_ns - 1)) * 100 AS worst_pct
FROM calibration_cell
WHERE held_out AND calibration_id = coalesce(:calibration, (SELECT max(calibration_id) FROM calibration))
GROUP BY shape, format ORDER BY shape, format
