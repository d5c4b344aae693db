# Trace importers and session generator.
libsim_la_SOURCES += \
	sim/session.c sim/session.h sim/trace/check.h sim/trace/id_table.c sim/trace/id_table.h \
	sim/trace/importer.h sim/trace/input.c sim/trace/input.h sim/trace/json_input.c sim/trace/json_input.h \
	sim/trace/reader.c sim/trace/request.c sim/trace/request.h sim/trace/request_log.c sim/trace/request_log.h \
	sim/trace/table.c sim/trace/trace.c sim/trace/trace.h \
	sim/trace/mooncake.c sim/trace/weka.c sim/trace/openai_chat.c sim/trace/intentkv.c \
	sim/trace/intentkv_write.c sim/trace/facts.c
libsim_la_SOURCES += sim/trace/generate.c sim/trace/generate.h sim/trace/generate_profile.c
nobase_dist_pkgdata_DATA += \
	scenarios/profiles/coding-agent.yaml scenarios/profiles/customer-service.yaml \
	scenarios/profiles/deep-research.yaml
