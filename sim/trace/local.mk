# Trace importers and session generator.
