/* Sample results: runs of several routers with plausible, seeded figures. */
#ifndef TESTS_STORE_SAMPLE_H
#define TESTS_STORE_SAMPLE_H

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include "db/store.h"

static inline struct store_step sample_step(int64_t run, int64_t session, int64_t step, int variant)
{
	struct ikv_rng r;
	ikv_rng_stream(&r, 5, IKV_STREAM_TEST, (uint64_t)session, (uint64_t)step * 31 + (uint64_t)variant);
	int64_t context = 8192 + 16 * step, pages = context / 16, chosen = pages * (15 + 7 * (variant % 10)) / 100;
	double wobble = ikv_rng_uniform(&r), share = (double)chosen / (double)pages;
	struct store_step s = {.run_id = run,
			       .session = session,
			       .step = step,
			       .batch_step = step,
			       .turn = step / 50,
			       .context_tokens = context,
			       .blocks = 40,
			       .pages = pages,
			       .selected_blocks = 8,
			       .selected_tokens = chosen * 16,
			       .selected_pages = chosen,
			       .decision_hash = ikv_rng_u64(&r),
			       .pressure = 0.5,
			       .occupancy = 0.9,
			       .dense_bytes = context * 131072,
			       .request_bytes = chosen * 16 * 70000,
			       .read_bytes = chosen * 16 * 80000,
			       .hit_pages = chosen - chosen / (3 + variant),
			       .miss_pages = chosen / (3 + variant),
			       .fetch_bytes = 1 << 20,
			       .spec_verified = -1};
	s.hit_pages -= (int64_t)(wobble * 20);
	s.pages_fp16 = pages / (1 + step / 100 + variant);
	s.pages_int8 = (pages - s.pages_fp16) / 2;
	s.pages_int4 = pages - s.pages_fp16 - s.pages_int8;
	s.sim_attention_ns = 1e6 * share * (1 + 0.2 * wobble);
	s.sim_transfer_ns = 4e5;
	s.sim_hidden_ns = 3e5;
	s.sim_exposed_ns = 1e5;
	s.sim_total_ns = s.sim_attention_ns + 2e5;
	s.sim_dense_ns = 1.3e6;
	bool ran = step % 4 == 0;
	s.mass_by = ran ? "measured" : NULL;
	s.mass_recall = ran ? 1 - 0.4 * (1 - share) * wobble : NAN;
	s.rel_l2 = ran ? 0.02 + 0.5 * (1 - share) * wobble : NAN;
	s.max_abs = s.cosine = s.kl = s.spec_accept = NAN;
	s.wall_attention_ns = ran ? 1.5e6 * share * (1 + wobble) : NAN;
	s.wall_dense_ns = ran ? 2e6 : NAN;
	s.wall_score_ns = s.wall_route_ns = s.wall_memory_ns = s.wall_recode_ns = s.wall_source_ns = s.wall_mass_ns = s.wall_measure_ns = NAN;
	return s;
}

static inline int sample_run(struct store *s, int variant, int steps, int64_t *run_id, struct ikv_err *err)
{
	static const char *const routers[] = {"semantic", "quest", "streaming", "dense"};
	char name[100], point[80];
	snprintf(point, sizeof point, "router.policy=%s,n=%d", routers[variant % 4], variant);
	snprintf(name, sizeof name, "sample %s", point);
	const struct store_param params[] = {{"router.policy", routers[variant % 4], "sweep"},
					     {"router.top_k_blocks", "8", "default"},
					     {"n", point, "sweep"}};
	const struct store_run run = {.name = name,
				      .point = point,
				      .scenario_path = "sample.yaml",
				      .scenario_text = "intentkv: 1\n",
				      .seed = 42,
				      .router = routers[variant % 4],
				      .scorer = "quest",
				      .source = "synthetic",
				      .execute = "sampled",
				      .params = params,
				      .param_count = 3,
				      .threads = 2};
	if (store_run_begin(s, &run, run_id, err) != 0)
		return -1;
	for (int64_t session = 0; session < 2; session++) {
		struct store_session row = {.run_id = *run_id,
					    .session = session,
					    .id = session ? "b" : "=a",
					    .reward = NAN,
					    .turns = 4,
					    .decoded_tokens = steps,
					    .longest_context = 9000};
		struct store_prefill prompt = {.run_id = *run_id,
					       .session = session,
					       .tokens = 8192,
					       .context_tokens = 8192,
					       .sim_ns = 4e8,
					       .sim_executed_ns = 2e7,
					       .flops = 3e9,
					       .wall_ns = 2.5e7,
					       .rel_l2 = 1e-3};
		if (store_session(s, &row, err) != 0 || store_prefill(s, &prompt, err) != 0)
			return -1;
	}
	for (int i = 0; i < steps; i++) {
		for (int64_t session = 0; session < 2; session++) {
			struct store_step row = sample_step(*run_id, session, i, variant);
			if (store_step(s, &row, err) != 0)
				return -1;
			for (int kind = 0; kind < 3 && i % 4 == 0; kind++) {
				struct store_role role = {.run_id = *run_id,
							  .session = session,
							  .step = i,
							  .kind = (enum ikv_kind)(kind * 3),
							  .tokens = 2000,
							  .selected_tokens = 500,
							  .read_bytes = 1 << 20,
							  .hit_pages = 30,
							  .miss_pages = 2,
							  .mass = 0.3,
							  .mass_selected = 0.25};
				if (store_role(s, &role, err) != 0)
					return -1;
			}
		}
	}
	return store_run_end(s, *run_id, "done", 1000000000, err);
}

#endif
