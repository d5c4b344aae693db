-- What the columns mean, with their units.
SELECT table_name, name, unit, better, description FROM metric_def ORDER BY table_name, name
