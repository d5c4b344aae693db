# CUDA backend.
