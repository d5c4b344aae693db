/* KV sources: where K, V and Q come from. One file per source behind one table.
 *
 * The step loop tells a source which tokens entered the context (`extend`), takes their K and V layer by
 * layer (`kv`), asks for the query of the newest token (`query`) and hands back the attention output
 * (`consume`), which a live model needs and the others ignore. All answers are deterministic in
 * (seed, sequence content, layer, head, token), the same bits on every ISA. */
#ifndef SIM_SOURCE_H
#define SIM_SOURCE_H

#include <intentkv.h>
#include "session.h"

struct source; /* opaque; each implementation begins with `const struct source_ops *ops` */

#define SOURCE_LAYERS_MAX 64 /* layers that a source can choose itself */

struct source_setup {
	struct ikv_geometry geometry; /* what the model preset asks for; a capture may replace it (see `open`) */
	const uint32_t *model_layers; /* [geometry.layers] layer numbers in the model of the executed layers */
	uint32_t sequences;           /* most sequences alive at once */
	uint64_t seed;
	/* Out: layer numbers in the model of the first layer_count of geometry.layers layers: those of model_layers,
	 * or those that a capture has recorded. */
	uint32_t layer_numbers[SOURCE_LAYERS_MAX], layer_count;
};

struct source_ops {
	const char *name, *summary;
	const struct ikv_option *options;
	size_t config_bytes;
	/* May change setup->geometry to what the recorded data has. */
	int (*open)(struct source **out, const void *config, struct source_setup *setup, struct ikv_err *err);
	void (*close)(struct source *s);
	/* Sessions that come with the source (capture); NULL when sessions come from elsewhere. */
	int (*sessions)(struct source *s, struct session_list *out, struct ikv_err *err);
	/* A session starts as sequence `seq`; `index` is its place in the list. */
	int (*begin)(struct source *s, uint32_t seq, const struct session *session, uint32_t index,
		     struct ikv_err *err);
	/* Tokens [first, layout->total_tokens) are new; the layout says which block each belongs to (uid, kind). */
	int (*extend)(struct source *s, uint32_t seq, const struct ikv_layout *layout, uint32_t first,
		      struct ikv_err *err);
	int (*truncate)(struct source *s, uint32_t seq, uint32_t tokens, struct ikv_err *err);
	/* K and V of tokens [first, first + count): FP16 [count][kv_heads][d], rotary applied. */
	int (*kv)(struct source *s, uint32_t seq, uint32_t layer, uint32_t first, uint32_t count, uint16_t *k,
		  uint16_t *v, struct ikv_err *err);
	/* Once per decode step, before `query`: move the sequence's intent on. `step` counts its decode steps. */
	int (*advance)(struct source *s, uint32_t seq, uint64_t step, struct ikv_err *err);
	/* Query rows of the newest token: float [q_heads][d_qk]. */
	int (*query)(struct source *s, uint32_t seq, uint32_t layer, float *q, struct ikv_err *err);
	/* Query rows of tokens [first, first + count) of a prompt: float [count][q_heads][d_qk]. NULL: the source has
	 * those of decode steps only. */
	int (*prompt)(struct source *s, uint32_t seq, uint32_t layer, uint32_t first, uint32_t count, float *q,
		      struct ikv_err *err);
	int (*consume)(struct source *s, uint32_t seq, uint32_t layer, const float *out, struct ikv_err *err);
	/* Where nothing is executed: modelled relevance in [0,1] of each block, and modelled softmax mass of each
	 * page for the coming step (sums to 1), mean over the heads [q_first, q_first + q_count). */
	int (*model_scores)(struct source *s, uint32_t seq, const struct ikv_layout *layout, double *scores,
			    struct ikv_err *err);
	int (*model_mass)(struct source *s, uint32_t seq, uint32_t layer, uint32_t q_first, uint32_t q_count,
			  uint32_t page_tokens, float *mass, struct ikv_err *err);
	void (*end)(struct source *s, uint32_t seq);
};
struct source {
	const struct source_ops *ops;
};
extern const struct source_ops *const sources[]; /* synthetic, capture; NULL-terminated */
const struct source_ops *source_find(const char *name);

#endif
