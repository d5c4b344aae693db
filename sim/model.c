/* Model presets and what follows from a model's dimensions. */
#include <math.h>
#include "sim/scenario.h"

/* Parameters: those that a token uses, of a mixture of experts the active ones. */
const struct model_preset model_presets[] = {
    {"llama-3-8b", 32, 32, 8, 128, 0, 0, 8.03e9, "arXiv 2407.21783, table 3"},
    {"llama-3-70b", 80, 64, 8, 128, 0, 0, 70.6e9, "arXiv 2407.21783, table 3"},
    {"llama-3.1-405b", 126, 128, 8, 128, 0, 0, 405.9e9, "arXiv 2407.21783, table 3"},
    {"llama-2-7b", 32, 32, 32, 128, 0, 0, 6.74e9, "arXiv 2307.09288"},
    {"qwen2.5-7b", 28, 28, 4, 128, 0, 0, 7.62e9, "arXiv 2412.15115, table 1"},
    {"qwen2.5-72b", 80, 64, 8, 128, 0, 0, 72.7e9, "arXiv 2412.15115, table 1"},
    {"deepseek-v2-lite", 27, 16, 1, 128, 512, 64, 2.4e9, "arXiv 2405.04434, appendix B"},
    {"deepseek-v2", 60, 128, 1, 128, 512, 64, 21e9, "arXiv 2405.04434, section 3.1"},
    {"deepseek-v3", 61, 128, 1, 128, 512, 64, 37e9, "arXiv 2412.19437, section 4.2"},
    {"agent-23m", 8, 8, 2, 64, 0, 0, 23.6e6, "a small Llama-architecture model trained on agent transcripts"},
    {.name = NULL},
};

uint64_t model_kv_values(const struct model_preset *m)
{
	return m->latent_dim ? m->latent_dim + m->rope_dim : 2 * (uint64_t)m->kv_heads * m->head_dim;
}

uint64_t model_page_bytes(const struct ikv_geometry *g, enum ikv_format f)
{
	uint64_t k = ikv_format_bytes(f, IKV_SIDE_K, g->page_tokens, g->d_qk);
	return g->v_aliases_k ? k : k + ikv_format_bytes(f, IKV_SIDE_V, g->page_tokens, g->d_v);
}

void model_geometry(const struct model_preset *m, struct ikv_geometry *g)
{
	g->q_heads = m->q_heads;
	g->kv_heads = m->kv_heads;
	g->d_qk = m->latent_dim ? m->latent_dim + m->rope_dim : m->head_dim;
	g->d_v = m->latent_dim ? m->latent_dim : m->head_dim;
	g->v_aliases_k = m->latent_dim != 0;
	g->scale = (float)(1 / sqrt((double)m->head_dim + m->rope_dim));
}
