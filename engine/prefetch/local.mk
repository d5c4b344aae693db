# Prefetchers.
