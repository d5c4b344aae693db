# Residency policies, the memory manager, SpecAttn, cost model, RoPE.
