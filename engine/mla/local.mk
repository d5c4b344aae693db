# Multi-head latent attention on top of any backend.
libengine_la_SOURCES += engine/mla/mla_parts.h engine/mla/mla.c engine/mla/reference.c
