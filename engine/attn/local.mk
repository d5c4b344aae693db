# Attention: reference, CPU backend, exact store.
