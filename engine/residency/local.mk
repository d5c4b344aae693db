# Residency policies, the memory manager, SpecAttn, cost model, RoPE.
libengine_la_SOURCES += \
	engine/serial.h engine/residency/residency_table.h engine/residency/table.c engine/residency/lru.c \
	engine/memory_state.h engine/memory.c engine/memory_moves.c engine/memory_step.c engine/memory_tune.c engine/memory_save.c \
	engine/specattn.c engine/speculative.c engine/cost.c engine/rope.c
