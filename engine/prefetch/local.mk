# Prefetchers.
libengine_la_SOURCES += \
	engine/prefetch/prefetch_table.h engine/prefetch/table.c engine/prefetch/none.c engine/prefetch/frequency.c
