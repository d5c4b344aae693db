/* The formats that can be read: one file and one line each. */
#include <string.h>
#include "sim/trace/importer.h"

const struct importer *const importers[] = {
    &importer_intentkv,        &importer_mooncake,       &importer_weka,
    &importer_openai_chat,     &importer_azure,          &importer_burstgpt,
    &importer_qwen_bailian,    &importer_aiperf,         &importer_tracelab,
    &importer_vllm_kv_events,  &importer_oracle_general, &importer_swe_agent,
    &importer_lmcache_agentic, &importer_otel_genai,     NULL,
};

const struct importer *importer_find(const char *name)
{
	for (const struct importer *const *i = importers; *i; i++)
		if (!strcmp((*i)->name, name))
			return *i;
	return NULL;
}
