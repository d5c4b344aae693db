/* The model "agentic-code": coding agents over a prompt in layers, after the agentic-code dataset generator of
 * NVIDIA's AIPerf (docs.nvidia.com/aiperf, "Agentic Code Dataset Generator"), whose parameter names it keeps. Tools
 * and system prompt are the same for all sessions, repository context is shared by a group, files and history belong
 * to a session; content ids say so. Each session has its own random stream. */
#include <math.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "sim/trace/generate.h"
#include "sim/trace/request.h"

enum agentic_draw { AG_ARRIVAL, AG_LAYER2, AG_NEW, AG_OUTPUT, AG_AGENTIC, AG_HUMAN, AG_SUMMARY, AG_DRAWS };
enum agentic_number {
	AG_BLOCK,
	AG_MAX,
	AG_LAYER1,
	AG_TOOLS,
	AG_LAYER15,
	AG_GROUPS,
	AG_ZIPF,
	AG_FRACTION,
	AG_RESET,
	AG_SCALING,
	AG_COMPACTION,
	AG_NUMBERS
};
static const char *const draw_keys[AG_DRAWS] = {"arrival_gap_ms",    "layer2_tokens",    "new_tokens_per_turn",
						"generation_length", "agentic_delay_ms", "human_delay_ms",
						"summary_tokens"};
static const struct {
	const char *key;
	double min, max;
	bool whole;
} numbers[AG_NUMBERS] = {
    [AG_BLOCK] = {"block_size", 1, 65536, true},
    [AG_MAX] = {"max_prompt_tokens", 1, 1e8, true},
    [AG_LAYER1] = {"layer1_tokens", 0, 1e8, true},
    [AG_TOOLS] = {"layer1_tools_fraction", 0, 1, false},
    [AG_LAYER15] = {"layer1_5_tokens", 0, 1e8, true},
    [AG_GROUPS] = {"num_groups", 1, 1e6, true},
    [AG_ZIPF] = {"zipf_alpha", 0, 100, false},
    [AG_FRACTION] = {"agentic_fraction", 0, 1, false},
    [AG_RESET] = {"reset_base_probability", 0, 1, false},
    [AG_SCALING] = {"reset_context_scaling", 1, 1e6, false},
    [AG_COMPACTION] = {"p_compaction", 0, 1, false},
};
enum { TURNS_MAX = 100000 };

struct agentic {
	struct draw draws[AG_DRAWS];
	double number[AG_NUMBERS];
	double *groups; /* cumulative weights of the groups; owned */
};

struct agent {
	const struct agentic *p;
	const struct generate_config *c;
	struct session *s;
	struct request_stream r;
	struct ikv_rng rng;
	uint64_t salt, number, group, epoch; /* epoch: compactions so far; what comes after one is new content */
	double scale;
	uint32_t global, shared, kept; /* tokens: layer 1; layers 1 and 1.5; what outlives a compaction */
	uint32_t block, max;
	uint64_t decoded;
	uint64_t *ids[2]; /* of this request and the one before */
	size_t cap[2];
	struct ikv_err *err;
};

static uint32_t tokens(struct agent *a, double n)
{
	n = floor(n * a->scale + .5);
	return n < 0 ? 0 : n > REQUEST_TOKENS_MAX ? REQUEST_TOKENS_MAX : (uint32_t)n;
}

/* A block belongs to the widest layer that holds all of it. A partial last block is content of its own: when it has
 * filled up, it is another. */
static uint64_t block_id(const struct agent *a, uint32_t i, uint32_t input)
{
	uint64_t end = ((uint64_t)i + 1) * a->block, of = a->salt;
	if (end > a->global)
		of = ikv_mix64_2(of, 1 + a->group);
	if (end > a->shared)
		of = ikv_mix64_2(of, 1 + a->number);
	if (end > a->kept)
		of = ikv_mix64_2(of, 1 + a->epoch);
	if (end > input)
		of = ikv_mix64_2(of, input);
	return ikv_mix64_2(of, i) >> 1; /* below 2^63, so that JSON can hold it */
}

static int begin(struct agent *a, uint32_t input)
{
	uint32_t count = ikv_pages(input, a->block);
	uint64_t *ids = a->ids[0];
	size_t cap = a->cap[0];
	a->ids[0] = a->ids[1];
	a->cap[0] = a->cap[1];
	a->ids[1] = ids;
	a->cap[1] = cap;
	if (a->cap[0] < count) {
		if (ikv_grow(&a->ids[0], 0, count, sizeof *a->ids[0], a->err))
			return -1;
		a->cap[0] = count;
	}
	for (uint32_t i = 0; i < count; i++)
		a->ids[0][i] = block_id(a, i, input);
	return request_begin(&a->r, a->s, a->ids[0], count, input, 0, a->err);
}

static int answer(struct agent *a, bool calls_tool)
{
	uint32_t n = tokens(a, draw_value(&a->p->draws[AG_OUTPUT], &a->rng));
	int64_t most = a->c->max_decode_tokens;
	n = n ? n : 1;
	if (most > 0 && a->decoded + n > (uint64_t)most)
		n = (uint32_t)((uint64_t)most - a->decoded);
	a->decoded += n;
	return request_decode(&a->r, a->s, n, calls_tool ? IKV_KIND_TOOL_CALL : IKV_KIND_ASSISTANT, 1, a->err);
}

static bool spent(const struct agent *a)
{
	return a->c->max_decode_tokens > 0 && a->decoded >= (uint64_t)a->c->max_decode_tokens;
}

/* AIPerf's rule: the chance grows linearly with the context, by context_scaling at the longest. */
static bool resets(struct agent *a, uint32_t input)
{
	const double *v = a->p->number;
	double p = v[AG_RESET] * (1 + (v[AG_SCALING] - 1) * input / a->max);
	return ikv_rng_uniform(&a->rng) < p;
}

static int first_turn(struct agent *a, bool calls_tool)
{
	uint32_t files = tokens(a, draw_value(&a->p->draws[AG_LAYER2], &a->rng)),
		 input = a->shared + (files ? files : 1);
	input = input > a->max ? a->max : input;
	a->kept = input;
	if (begin(a, input) ||
	    request_append(&a->r, a->s, (uint32_t)(a->global * a->p->number[AG_TOOLS] + .5), IKV_KIND_TOOLS, 1,
			   a->err) ||
	    request_append(&a->r, a->s, a->global, IKV_KIND_SYSTEM, 1, a->err) ||
	    request_append(&a->r, a->s, a->shared, IKV_KIND_MEMORY, 1, a->err) ||
	    request_append(&a->r, a->s, input, IKV_KIND_RETRIEVED, 1, a->err))
		return -1;
	return answer(a, calls_tool);
}

/* 1: the session ends before it; 0; -1. `by_tool`: the request brings a tool's output, not a person's words. */
static int later_turn(struct agent *a, bool by_tool, bool calls_tool)
{
	const struct agentic *p = a->p;
	double wait = draw_value(&p->draws[by_tool ? AG_AGENTIC : AG_HUMAN], &a->rng);
	uint32_t new = tokens(a, draw_value(&p->draws[AG_NEW], &a->rng)), start = a->r.context, summary = 0;
	bool compacts = ikv_rng_uniform(&a->rng) < p->number[AG_COMPACTION] && a->kept < a->r.input;
	bool ends = resets(a, a->r.input);
	new = new ? new : 1;
	if (compacts) {
		summary = tokens(a, draw_value(&p->draws[AG_SUMMARY], &a->rng));
		start = a->kept + (summary ? summary : 1);
		a->epoch++;
	}
	if (start >= a->max || new >= a->max - start || (a->c->turns <= 0 && ends))
		return 1;
	if (request_wait(&a->r, a->s, wait, a->err) || begin(a, start + new) ||
	    (compacts && request_append(&a->r, a->s, start, IKV_KIND_MEMORY, 1, a->err)) ||
	    request_append(&a->r, a->s, start + new, by_tool ? IKV_KIND_TOOL_OUTPUT : IKV_KIND_USER, 1, a->err))
		return -1;
	return answer(a, calls_tool);
}

static uint64_t find_group(const struct agentic *p, double u)
{
	uint64_t low = 0, high = (uint64_t)p->number[AG_GROUPS] - 1;
	while (low < high) {
		uint64_t middle = (low + high) / 2;
		if (p->groups[middle] <= u)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int one_session(struct agent *a, uint64_t seed, uint32_t number, double *clock_ms, struct session_list *out)
{
	const struct agentic *p = a->p;
	char id[32];
	snprintf(id, sizeof id, "generated-%u", number);
	if (!(a->s = session_add(out, id, a->err)))
		return -1;
	ikv_rng_stream(&a->rng, seed, IKV_STREAM_SESSION, number, 0);
	a->number = number;
	a->epoch = a->decoded = 0;
	a->r = (struct request_stream){0};
	a->s->arrival_ms = *clock_ms;
	*clock_ms += draw_value(&p->draws[AG_ARRIVAL], &a->rng);
	a->s->hash_block_tokens = a->block;
	a->s->hashes_global = true;
	a->group = find_group(p, ikv_rng_uniform(&a->rng));
	bool calls_tool = ikv_rng_uniform(&a->rng) < p->number[AG_FRACTION];
	int rc = first_turn(a, calls_tool);
	int64_t turns = a->c->turns > 0 ? a->c->turns : TURNS_MAX;
	for (int64_t i = 1; !rc && i < turns && !spent(a); i++) {
		bool by_tool = calls_tool;
		calls_tool = ikv_rng_uniform(&a->rng) < p->number[AG_FRACTION];
		rc = later_turn(a, by_tool, calls_tool);
	}
	return rc < 0 ? -1 : session_check(a->s, a->err);
}

static int generate(const void *profile, const struct generate_config *config, uint64_t seed,
		    struct session_list *out, struct ikv_err *err)
{
	const struct agentic *p = profile;
	double clock_ms = 0, max = p->number[AG_MAX];
	struct agent a = {.p = p, .c = config, .salt = ikv_mix64_2(seed, 1), .err = err};
	int rc = 0;
	/* A shorter context keeps its proportions. */
	a.scale = config->context_tokens > 0 ? (double)config->context_tokens / max : 1;
	a.block = (uint32_t)p->number[AG_BLOCK];
	a.max = tokens(&a, max);
	a.global = tokens(&a, p->number[AG_LAYER1]);
	a.shared = a.global + tokens(&a, p->number[AG_LAYER15]);
	for (int64_t i = 0; !rc && i < config->count; i++)
		rc = one_session(&a, seed, (uint32_t)i, &clock_ms, out);
	ikv_free(a.ids[0]);
	ikv_free(a.ids[1]);
	return rc;
}

/* Zipf: group g is chosen with a weight of 1 / (g + 1)^alpha. */
static int weigh_groups(struct agentic *p, struct ikv_err *err)
{
	size_t n = (size_t)p->number[AG_GROUPS];
	double sum = 0;
	if (!(p->groups = ikv_alloc(n, sizeof *p->groups, err)))
		return -1;
	for (size_t g = 0; g < n; g++) {
		sum += ikv_det_exp(-p->number[AG_ZIPF] * ikv_det_log((double)g + 1));
		p->groups[g] = sum;
	}
	for (size_t g = 0; g < n; g++)
		p->groups[g] /= sum;
	return 0;
}

static int read_profile(const struct yaml_node *root, const char *path, void *profile, struct ikv_err *err)
{
	struct agentic *p = profile;
	enum { COMMON = 3 };
	const char *valid[COMMON + AG_DRAWS + AG_NUMBERS] = {GENERATE_KEYS};
	memcpy(valid + COMMON, draw_keys, sizeof draw_keys);
	for (size_t i = 0; i < AG_NUMBERS; i++)
		valid[COMMON + AG_DRAWS + i] = numbers[i].key;
	if (yaml_check_keys(root, path, NULL, valid, sizeof valid / sizeof *valid, err))
		return -1;
	for (size_t i = 0; i < AG_DRAWS; i++) {
		const struct yaml_node *n = generate_need(root, path, draw_keys[i], err);
		if (!n || draw_read(n, path, draw_keys[i], &p->draws[i], err))
			return -1;
	}
	for (size_t i = 0; i < AG_NUMBERS; i++) {
		const struct yaml_node *n = generate_need(root, path, numbers[i].key, err);
		int64_t whole = 0;
		if (!n)
			return -1;
		if (!numbers[i].whole) {
			if (yaml_real(n, path, numbers[i].key, numbers[i].min, numbers[i].max, &p->number[i], err))
				return -1;
			continue;
		}
		if (yaml_int(n, path, numbers[i].key, (int64_t)numbers[i].min, (int64_t)numbers[i].max, &whole, err))
			return -1;
		p->number[i] = (double)whole;
	}
	if (p->number[AG_LAYER1] + p->number[AG_LAYER15] >= p->number[AG_MAX])
		return ikv_err_at(err, IKV_BAD_INPUT, path, root->line, root->col, "max_prompt_tokens",
				  "found %.0f, expected more than layer1_tokens and layer1_5_tokens together (%.0f)",
				  p->number[AG_MAX], p->number[AG_LAYER1] + p->number[AG_LAYER15]);
	return weigh_groups(p, err);
}

static void release(void *profile)
{
	struct agentic *p = profile;
	for (size_t i = 0; i < AG_DRAWS; i++)
		draw_free(&p->draws[i]);
	ikv_free(p->groups);
}

const struct generate_model generate_agentic_code = {
    .name = "agentic-code",
    .summary = "coding agents over a prompt in layers shared by all, by groups and by none",
    .size = sizeof(struct agentic),
    .read = read_profile,
    .release = release,
    .generate = generate,
};
