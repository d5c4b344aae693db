# Trace importers and session generator.
libsim_la_SOURCES += \
	sim/session.c sim/session.h sim/trace/table.c sim/trace/table.h sim/trace/id_table.c \
	sim/trace/json_input.c sim/trace/json_input.h sim/trace/request.c sim/trace/request.h \
	sim/trace/mooncake.c sim/trace/weka.c sim/trace/openai_chat.c sim/trace/intentkv.c \
	sim/trace/intentkv_write.c sim/trace/facts.c
