/* Scorers against plain double-precision references over the exact store. */
#include <math.h>
#include <string.h>
#include <intentkv.h>
#include "tap.h"

#define DIM    20 /* not a multiple of the lanes */
#define KV     2
#define HEADS  8
#define PAGE   16
#define TOKENS 333

static const struct ikv_geometry geometry = {
    .layers = 1, .q_heads = HEADS, .kv_heads = KV, .d_qk = DIM, .d_v = DIM, .page_tokens = PAGE, .scale = 0.25f};
static float keys[TOKENS][KV][DIM];
static uint16_t halves[TOKENS][KV][DIM];
static float query[HEADS][DIM];
static struct ikv_exact *store;
static struct ikv_block blocks[4];
static struct ikv_layout layout = {blocks, 4, TOKENS, PAGE};
static struct ikv_err err;

static void append(uint32_t from, uint32_t to)
{
	ck_assert_msg(!ikv_exact_append(store, 0, 0, to - from, &halves[from][0][0], &halves[from][0][0], &err), "%s",
		      err.text);
}

static void setup(void)
{
	static const struct ikv_block four[] = {
	    {.name = "a", .start = 0, .end = 40, .policy = IKV_ALWAYS, .uid = 1},
	    {.name = "b", .start = 40, .end = 125, .policy = IKV_ATTEND, .uid = 2},
	    {.name = "c", .start = 130, .end = 136, .policy = IKV_SKIP_BLOCK, .uid = 3},
	    {.name = "d", .start = 136, .end = TOKENS, .policy = IKV_ATTEND, .uid = 4},
	};
	struct ikv_rng r;
	ikv_rng_stream(&r, 5, IKV_STREAM_TEST, 0, 0);
	for (int t = 0; t < TOKENS; t++)
		for (int h = 0; h < KV; h++)
			for (int d = 0; d < DIM; d++) {
				/* A drift, so that blocks differ and cosines are of both signs. */
				double x = ikv_rng_normal(&r) + (t < 130 ? 0.5 : -0.4) * (d % 3 - 0.5);
				halves[t][h][d] = ikv_fp16_from_float((float)x);
				keys[t][h][d] = ikv_fp16_to_float(halves[t][h][d]);
			}
	for (int h = 0; h < HEADS; h++)
		for (int d = 0; d < DIM; d++)
			query[h][d] = (float)(ikv_rng_normal(&r) + (d % 3 - 0.5));
	memcpy(blocks, four, sizeof four);
	layout.total_tokens = TOKENS;
	ck_assert_msg(!ikv_exact_create(&store, &geometry, 1, &err), "%s", err.text);
}

static void teardown(void)
{
	ikv_exact_destroy(store);
}

static void *open_scorer(const char *name)
{
	void *state;
	ck_assert_int_eq(ikv_scorer_find(name)->create(&state, NULL, &geometry, 1, &err), 0);
	return state;
}

static void score(const char *name, void *state, uint32_t q_first, uint32_t q_count, float *page_scores)
{
	struct ikv_score_unit u = {0, 0, q_first, q_count, query[q_first], store, &layout, page_scores, NULL};
	ck_assert_msg(!ikv_scorer_find(name)->score(state, &u, 1, &err), "%s", err.text);
}

static double cosine_reference(const struct ikv_block *b, uint32_t q_first, uint32_t q_count)
{
	double dot = 0, q2 = 0, k2 = 0;
	for (int d = 0; d < DIM; d++) {
		double q = 0, k = 0;
		for (uint32_t h = q_first; h < q_first + q_count; h++)
			q += (double)query[h][d];
		for (uint32_t t = b->start; t < b->end; t++)
			for (uint32_t h = q_first / 4; h <= (q_first + q_count - 1) / 4; h++)
				k += (double)keys[t][h][d];
		dot += q * k;
		q2 += q * q;
		k2 += k * k;
	}
	return fmin(1, fmax(0, dot / sqrt(q2 * k2)));
}

START_TEST(cosine_is_the_cosine_of_means)
{
	static const uint32_t heads[][2] = {{0, 8}, {0, 4}, {4, 4}, {5, 1}};
	void *s = open_scorer("cosine");
	append(0, TOKENS);
	for (int i = 0; i < 8; i++) { /* twice: the second round is served by what was kept */
		const uint32_t *h = heads[i % 4];
		int positive = 0;
		score("cosine", s, h[0], h[1], NULL);
		ck_assert(!blocks[0].has_score);
		for (int b = 1; b < 4; b++) {
			ck_assert(blocks[b].has_score);
			ck_assert_double_le(fabs(blocks[b].score - cosine_reference(&blocks[b], h[0], h[1])), 1e-5);
			positive += blocks[b].score > 0;
		}
		ck_assert_int_gt(positive, 0);
	}
	ikv_scorer_find("cosine")->destroy(s);
}
END_TEST

START_TEST(cosine_of_pages)
{
	static const uint32_t heads[][2] = {{0, 8}, {0, 4}, {4, 4}, {5, 1}, {2, 4}};
	void *s = open_scorer("cosine");
	float scores[64], taken[64], again[64];
	append(0, TOKENS);
	const uint32_t pages = (TOKENS + PAGE - 1) / PAGE;
	for (int i = 0; i < 5; i++) {
		int positive = 0;
		score("cosine", s, heads[i][0], heads[i][1], scores);
		for (uint32_t p = 0; p < pages; p++) {
			const struct ikv_block page = {.start = p * PAGE,
						       .end = (p + 1) * PAGE < TOKENS ? (p + 1) * PAGE : TOKENS};
			const double want = cosine_reference(&page, heads[i][0], heads[i][1]);
			ck_assert_double_le(fabs((double)scores[p] - want), 1e-5);
			positive += scores[p] > 0;
		}
		ck_assert_int_gt(positive, 0);
		ikv_exact_set_threads(store, 2); /* threads change no bit */
		score("cosine", s, heads[i][0], heads[i][1], again);
		ikv_exact_set_threads(store, 1);
		ck_assert(!memcmp(again, scores, pages * sizeof *scores));
	}
	/* What a backend has made is taken as it is; blocks are scored all the same. */
	struct ikv_score_unit given = {0, 0, 2, 4, query[2], store, &layout, taken, scores};
	scores[1] = 0.25f;
	ck_assert_int_eq(ikv_scorer_find("cosine")->score(s, &given, 1, &err), 0);
	ck_assert(!memcmp(taken, scores, pages * sizeof *taken));
	ck_assert(blocks[1].has_score);
	ikv_scorer_find("cosine")->destroy(s);
}
END_TEST

START_TEST(cosine_of_a_zero_is_zero)
{
	double q[5] = {1, -2, 3, 0, 1}, none[5] = {0};
	const float sums[10] = {1, -2, 3, 0, 1, 1, -2, 3, 0, 1}, zero[10] = {0}, away[5] = {-1, 2, -3, 0, -1};
	const double length = sqrt(15);
	ck_assert_float_eq(ikv_page_cosine(q, length, sums, 5, 2, 5), 1);
	ck_assert_float_eq(ikv_page_cosine(q, length, zero, 5, 2, 5), 0);
	ck_assert_float_eq(ikv_page_cosine(none, 0, sums, 5, 2, 5), 0);
	ck_assert_float_eq(ikv_page_cosine(q, length, away, 5, 1, 5), 0); /* clamped */
}
END_TEST

START_TEST(cosine_of_a_growing_block_has_the_bits_of_a_fresh_one)
{
	void *s = open_scorer("cosine");
	append(0, 140);
	for (uint32_t t = 140; t < TOKENS; t++) {
		append(t, t + 1);
		layout.total_tokens = blocks[3].end = t + 1;
		score("cosine", s, 0, 8, NULL);
		if (t % 7 == 0) {
			double grown = blocks[3].score, closed = blocks[1].score;
			void *fresh = open_scorer("cosine");
			score("cosine", fresh, 0, 8, NULL);
			ck_assert(grown == blocks[3].score && closed == blocks[1].score);
			ikv_scorer_find("cosine")->destroy(fresh);
		}
	}
	uint64_t allocs = ikv_alloc_count();
	score("cosine", s, 0, 8, NULL);
	ck_assert_uint_eq(ikv_alloc_count(), allocs);
	ikv_scorer_find("cosine")->destroy(s);
}
END_TEST

START_TEST(cosine_forgets_a_lost_tail)
{
	void *s = open_scorer("cosine");
	append(0, TOKENS);
	score("cosine", s, 0, 8, NULL);
	double before = blocks[3].score;
	/* The same block again after other content: without forget the kept sum would answer. */
	ck_assert_int_eq(ikv_exact_truncate(store, 0, 200, &err), 0);
	ikv_scorer_find("cosine")->forget(s, 0, 200);
	for (int t = 200; t < TOKENS; t++)
		for (int d = 0; d < DIM; d++)
			halves[t][0][d] = halves[t][1][d] = ikv_fp16_from_float((float)(d % 3 - 0.5) * 4);
	append(200, TOKENS);
	score("cosine", s, 0, 8, NULL);
	double after = blocks[3].score;
	void *fresh = open_scorer("cosine");
	score("cosine", fresh, 0, 8, NULL);
	ck_assert(after == blocks[3].score && after != before);
	ikv_scorer_find("cosine")->destroy(fresh);
	ikv_scorer_find("cosine")->destroy(s);
}
END_TEST

START_TEST(zero_vectors_score_zero)
{
	void *s = open_scorer("cosine");
	memset(halves, 0, sizeof halves);
	append(0, TOKENS);
	score("cosine", s, 0, 8, NULL);
	ck_assert(blocks[1].has_score && blocks[1].score == 0);
	memset(query, 0, sizeof query);
	score("cosine", s, 0, 8, NULL);
	ck_assert(blocks[3].score == 0);
	ikv_scorer_find("cosine")->destroy(s);
}
END_TEST

static double bound_reference(uint32_t page, uint32_t head)
{
	double sum = 0;
	for (int d = 0; d < DIM; d++) {
		double lo = INFINITY, hi = -INFINITY, q = (double)query[head][d];
		for (uint32_t t = page * PAGE; t < (page + 1) * PAGE && t < TOKENS; t++) {
			lo = fmin(lo, (double)keys[t][head / 4][d]);
			hi = fmax(hi, (double)keys[t][head / 4][d]);
		}
		sum += fmax(q * lo, q * hi);
	}
	return sum;
}

START_TEST(quest_scores)
{
	const uint32_t pages = ikv_pages(TOKENS, PAGE);
	float page_scores[64];
	double want[64], most = -INFINITY, mass[4] = {0}, largest = 0;
	void *s = open_scorer("quest");
	append(0, TOKENS);
	score("quest", s, 2, 4, page_scores); /* heads 2 to 5: both KV heads */
	for (uint32_t p = 0; p < pages; p++) {
		want[p] = -INFINITY;
		for (uint32_t h = 2; h < 6; h++)
			want[p] = fmax(want[p], bound_reference(p, h));
		ck_assert_double_le(fabs((double)page_scores[p] - want[p]), 1e-4);
		most = fmax(most, want[p]);
	}
	for (int b = 1; b < 4; b++) {
		for (uint32_t t = blocks[b].start; t < blocks[b].end; t++) {
			uint32_t p = t / PAGE, n = (p + 1) * PAGE > TOKENS ? TOKENS - p * PAGE : PAGE;
			mass[b] += exp((want[p] - most) * 0.25) / n;
		}
		largest = fmax(largest, mass[b]);
	}
	for (int b = 1; b < 4; b++)
		ck_assert_double_le(fabs(blocks[b].score - mass[b] / largest), 1e-4);
	ck_assert(!blocks[0].has_score);
	double with = blocks[1].score;
	score("quest", s, 2, 4, NULL);
	ck_assert(with == blocks[1].score);
	/* Bounds made elsewhere stand for those of the keys. */
	float taken[64];
	ck_assert_uint_le(pages, 64);
	struct ikv_score_unit given = {0, 0, 2, 4, query[2], store, &layout, taken, page_scores};
	blocks[1].score = -1;
	ck_assert_int_eq(ikv_scorer_find("quest")->score(s, &given, 1, &err), 0);
	ck_assert(with == blocks[1].score && !memcmp(taken, page_scores, pages * sizeof *taken));
	float even[64] = {0}; /* a block's mass is then that of its pages */
	given.given = even;
	ck_assert_int_eq(ikv_scorer_find("quest")->score(s, &given, 1, &err), 0);
	for (int b = 1; b < 4; b++) {
		double size = 0, most_size = 0;
		for (int i = 1; i < 4; i++) {
			double n = 0;
			for (uint32_t t = blocks[i].start; t < blocks[i].end; t++)
				n += 1.0 / (t / PAGE + 1 < pages ? PAGE : TOKENS - (pages - 1) * PAGE);
			most_size = fmax(most_size, n);
			size = i == b ? n : size;
		}
		ck_assert_double_le(fabs(blocks[b].score - size / most_size), 1e-12);
	}
	/* It bounds every product. */
	for (uint32_t t = 0; t < TOKENS; t++) {
		double dot = 0;
		for (int d = 0; d < DIM; d++)
			dot += (double)query[2][d] * (double)keys[t][0][d];
		ck_assert_double_le(dot, (double)page_scores[t / PAGE] + 1e-4);
	}
	const uint16_t *ends = ikv_exact_kmin(store, 0, 0, 3, 0);
	ck_assert_double_le(fabs((double)ikv_quest_bound(query[3], ends, DIM) - bound_reference(3, 3)), 1e-4);
	ikv_scorer_find("quest")->destroy(s);
}
END_TEST

START_TEST(every_scorer_keeps_the_contract)
{
	const struct ikv_scorer_ops *ops = ikv_scorers()[_i];
	void *s = open_scorer(ops->name);
	append(0, 100);
	struct ikv_score_unit u = {0, 0, 0, 4, query[0], store, &layout, NULL, NULL};
	ck_assert_int_eq(ops->score(s, &u, 1, &err), -1); /* the layout has more tokens than there are keys */
	ck_assert_ptr_nonnull(strstr(err.text, "333"));
	append(100, TOKENS);
	ck_assert_int_eq(ops->score(s, &u, 1, &err), 0);
	for (int b = 1; b < 4; b++)
		ck_assert(blocks[b].has_score && blocks[b].score >= 0 && blocks[b].score <= 1);
	u.q_count = HEADS + 1;
	ck_assert_int_eq(ops->score(s, &u, 1, &err), -1);
	ops->forget(s, 0, 0);
	ops->destroy(s);
}
END_TEST

int main(void)
{
	Suite *s = suite_create("scorer");
	TCase *t = tcase_create("scorer");
	int n = 0;
	while (ikv_scorers()[n])
		n++;
	tcase_add_checked_fixture(t, setup, teardown);
	tcase_add_test(t, cosine_is_the_cosine_of_means);
	tcase_add_test(t, cosine_of_pages);
	tcase_add_test(t, cosine_of_a_zero_is_zero);
	tcase_add_test(t, cosine_of_a_growing_block_has_the_bits_of_a_fresh_one);
	tcase_add_test(t, cosine_forgets_a_lost_tail);
	tcase_add_test(t, zero_vectors_score_zero);
	tcase_add_test(t, quest_scores);
	tcase_add_loop_test(t, every_scorer_keeps_the_contract, 0, n);
	suite_add_tcase(s, t);
	return tap_run(s);
}
