# Trace importers and session generator.
libsim_la_SOURCES += \
	sim/session.c sim/session.h sim/trace/census.c sim/trace/census.h sim/trace/check.h sim/trace/id_table.c sim/trace/id_table.h \
	sim/trace/importer.h sim/trace/input.c sim/trace/input.h sim/trace/json_input.c sim/trace/json_input.h \
	sim/trace/reader.c sim/trace/reblock.c sim/trace/reblock.h sim/trace/request.c sim/trace/request.h sim/trace/request_log.c sim/trace/request_log.h \
	sim/trace/table.c sim/trace/trace.c sim/trace/trace.h \
	sim/trace/mooncake.c sim/trace/weka.c sim/trace/openai_chat.c sim/trace/intentkv.c \
	sim/trace/intentkv_write.c sim/trace/facts.c sim/trace/oracle_general.c \
	sim/trace/csv_input.c sim/trace/csv_input.h sim/trace/timestamp.c sim/trace/timestamp.h \
	sim/trace/starts.c sim/trace/starts.h sim/trace/azure.c sim/trace/burstgpt.c sim/trace/qwen_bailian.c \
	sim/trace/aiperf.c sim/trace/tracelab.c sim/trace/msgpack.c sim/trace/msgpack.h sim/trace/vllm_kv_events.c \
	sim/trace/messages.c sim/trace/messages.h sim/trace/conversation.c sim/trace/conversation.h \
	sim/trace/swe_agent.c sim/trace/lmcache_agentic.c sim/trace/otel_genai.c
libsim_la_SOURCES += sim/trace/stats.c sim/trace/stats.h sim/trace/stats_requests.c
libsim_la_SOURCES += sim/trace/generate.c sim/trace/generate.h sim/trace/generate_pieces.c \
	sim/trace/draw.c sim/trace/draw.h sim/trace/generate_agentic.c sim/trace/twin.h sim/trace/twin_draw.c \
	sim/trace/twin_emit.c sim/trace/twin_fit.c sim/trace/twin_plan.c sim/trace/twin_profile.c sim/trace/twin_share.c
nobase_dist_pkgdata_DATA += \
	scenarios/profiles/agentic-code.yaml scenarios/profiles/coding-agent.yaml scenarios/profiles/customer-service.yaml \
	scenarios/profiles/deep-research.yaml
