# Scorers.
