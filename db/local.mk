# Result store.
