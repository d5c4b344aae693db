#include <math.h>
#include "attn/geometry.h"
#include "intentkv/alloc.h"
#include "intentkv/layout.h"

static int within(const char *what, uint32_t value, uint32_t max, struct ikv_err *err)
{
	if (value >= 1 && value <= max)
		return 0;
	return ikv_err_set(err, IKV_BAD_INPUT, "geometry: %s is %u, expected 1 to %u", what, value, max);
}

int geometry_check(const struct ikv_geometry *g, uint32_t sequences, struct ikv_err *err)
{
	if (within("layers", g->layers, 4096, err) || within("q_heads", g->q_heads, 4096, err) ||
	    within("kv_heads", g->kv_heads, 4096, err) || within("d_qk", g->d_qk, 8192, err) ||
	    within("d_v", g->d_v, 8192, err) || within("page_tokens", g->page_tokens, IKV_PAGE_TOKENS_MAX, err) ||
	    within("sequences", sequences, 1u << 20, err))
		return -1;
	if (g->q_heads % g->kv_heads)
		return ikv_err_set(err, IKV_BAD_INPUT, "geometry: q_heads %u is not a multiple of kv_heads %u",
				   g->q_heads, g->kv_heads);
	if (g->v_aliases_k && g->d_v > g->d_qk)
		return ikv_err_set(err, IKV_BAD_INPUT, "geometry: V aliases K but d_v %u exceeds d_qk %u", g->d_v,
				   g->d_qk);
	if (!isfinite(g->scale))
		return ikv_err_set(err, IKV_BAD_INPUT, "geometry: scale is not finite");
	return 0;
}

int geometry_room(void *array, uint32_t *cap, uint32_t need, size_t size, struct ikv_err *err)
{
	if (need <= *cap)
		return 0;
	uint32_t want = *cap < 16 ? 16 : *cap;
	while (want < need)
		want = want > UINT32_MAX / 2 ? need : 2 * want;
	if (ikv_grow(array, *cap, want, size, err))
		return -1;
	*cap = want;
	return 0;
}
