# Residency policies, the memory manager, SpecAttn, cost model, RoPE.
libengine_la_SOURCES += \
	engine/serial.h engine/residency/residency_table.h engine/residency/table.c \
	engine/residency/queues.h engine/residency/queues.c engine/residency/lru.c engine/residency/fifo.c \
	engine/residency/clock.c engine/residency/lfu.c engine/residency/sieve.c engine/residency/s3fifo.c \
	engine/residency/arc.c engine/residency/belady.c \
	engine/memory_state.h engine/memory.c engine/memory_moves.c engine/memory_step.c engine/memory_tune.c engine/memory_save.c \
	engine/specattn.c engine/speculative.c engine/cost.c engine/rope.c
