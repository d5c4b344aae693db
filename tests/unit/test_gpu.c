/* What of the CUDA part needs no CUDA: the order of bytes in tiles, page summaries, the cutting of work, the queues of page
 * moves. */
#include <string.h>
#include "gpu/moves.h"
#include "gpu/select.h"
#include "gpu/split.h"
#include "gpu/gpu_tile.h"
#include "gpu/mla_tile.h"
#include "gpu/summary.h"
#include "intentkv.h"
#include "tap.h"

/* Stored forms survive the way into tiles and back, bit for bit, in all formats and widths. */
START_TEST(tiles_keep_every_bit)
{
	static const uint32_t dims[] = {1, 31, 64, 72, 80, 96, 97, 128, 200, 256}, pages[] = {8, 16, 24, 128};
	struct ikv_rng r;
	struct ikv_err err;
	ikv_rng_stream(&r, 5, (enum ikv_stream)0, 0, 0);
	for (unsigned f = IKV_FMT_FP16; f < GPU_FORMATS; f++) {
		for (unsigned i = 0; i < 10 * 4; i++) {
			uint32_t dk = dims[i % 10], dv = dims[(i + i / 10) % 10], n = pages[i / 10];
			uint32_t steps = tile_steps(dk > dv ? dk : dv), tiles = (n + TILE_TOKENS - 1) / TILE_TOKENS;
			size_t kb = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, n, dk),
			       vb = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, n, dv);
			uint16_t *rows = calloc((size_t)n * 256, 2);
			uint8_t *k = calloc(1, kb), *v = calloc(1, vb), *k2 = calloc(1, kb), *v2 = calloc(1, vb);
			uint8_t *packed = malloc((size_t)tiles * tile_bytes(f, steps));
			for (uint32_t j = 0; j < n * 256; j++)
				rows[j] = ikv_fp16_from_float((float)ikv_rng_normal(&r));
			ck_assert_int_eq(ikv_format_encode((enum ikv_format)f, IKV_SIDE_K, rows, n, dk, k, &err), 0);
			ck_assert_int_eq(ikv_format_encode((enum ikv_format)f, IKV_SIDE_V, rows, n, dv, v, &err), 0);
			gpu_tile_pack((enum ikv_format)f, n, dk, dv, steps, k, v, packed);
			gpu_tile_unpack((enum ikv_format)f, n, dk, dv, steps, packed, k2, v2);
			ck_assert_msg(!memcmp(k, k2, kb) && !memcmp(v, v2, vb), "%s, %u tokens, d %u/%u",
				      ikv_format_names()[f], n, dk, dv);
			free(rows);
			free(k);
			free(v);
			free(k2);
			free(v2);
			free(packed);
		}
	}
}
END_TEST

/* 65536 is a BF16 number and no FP16 number. */
START_TEST(wide_numbers_are_kept)
{
	uint16_t rows[16 * 64], k[16 * 64], v[16 * 64], k2[16 * 64], v2[16 * 64];
	uint8_t tile[4 * 1024];
	struct ikv_err err;
	for (unsigned i = 0; i < 16 * 64; i++)
		rows[i] = (uint16_t)(i * 67 & 0xbbff);
	ck_assert_int_eq(ikv_format_encode(IKV_FMT_BF16, IKV_SIDE_K, rows, 16, 64, k, &err), 0);
	ck_assert(!gpu_tile_wide((const uint8_t *)k, 16 * 64));
	rows[77] = 0x7bff;
	rows[78] = 0xfbff;
	rows[79] = 1;
	ck_assert_int_eq(ikv_format_encode(IKV_FMT_BF16, IKV_SIDE_V, rows, 16, 64, v, &err), 0);
	ck_assert(gpu_tile_wide((const uint8_t *)v, 16 * 64));
	ck_assert_uint_eq(tile_format(TILE_BF16_WIDE), IKV_FMT_BF16);
	gpu_tile_pack(TILE_BF16_WIDE, 16, 64, 64, 4, (const uint8_t *)k, (const uint8_t *)v, tile);
	gpu_tile_unpack(TILE_BF16_WIDE, 16, 64, 64, 4, tile, (uint8_t *)k2, (uint8_t *)v2);
	ck_assert(!memcmp(k, k2, sizeof k) && !memcmp(v, v2, sizeof v));
}
END_TEST

/* The same for latent rows; a group of 8 tokens takes what the format takes. */
START_TEST(latent_groups_keep_every_bit)
{
	static const uint32_t dims[] = {1, 33, 96, 511, 576}, pages[] = {8, 16, 24, 64};
	struct ikv_rng r;
	struct ikv_err err;
	ikv_rng_stream(&r, 6, (enum ikv_stream)0, 0, 0);
	for (unsigned f = IKV_FMT_FP16; f < MLA_FORMATS; f++) {
		ck_assert_uint_eq(mla_group_bytes(f),
				  ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, MLA_GROUP, MLA_DIM));
		for (unsigned i = 0; i < 5 * 4; i++) {
			uint32_t d = dims[i % 5], n = pages[i / 5];
			size_t bytes = ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, n, d);
			uint16_t *rows = calloc((size_t)n * MLA_DIM, 2);
			uint8_t *k = calloc(1, bytes), *k2 = calloc(1, bytes);
			uint8_t *packed = malloc((size_t)((n + 15) / 16) * 2 * mla_group_bytes(f));
			for (uint32_t j = 0; j < n * d; j++)
				rows[j] = ikv_fp16_from_float((float)ikv_rng_normal(&r));
			ck_assert_int_eq(ikv_format_encode((enum ikv_format)f, IKV_SIDE_K, rows, n, d, k, &err), 0);
			mla_tile_pack((enum ikv_format)f, n, d, k, packed);
			mla_tile_unpack((enum ikv_format)f, n, d, packed, k2);
			ck_assert_msg(!memcmp(k, k2, bytes), "%s, %u tokens of %u", ikv_format_names()[f], n, d);
			free(rows);
			free(k);
			free(k2);
			free(packed);
		}
	}
}
END_TEST

/* A tile takes what the format takes, where the width is a multiple of 32 and the page one of 16; KIVI's has a unit
 * besides. */
START_TEST(tiles_waste_nothing)
{
	for (unsigned f = IKV_FMT_FP16; f < GPU_FORMATS; f++)
		for (uint32_t dim = 64; dim <= 128; dim += 32)
			ck_assert_uint_eq(tile_bytes(f, tile_steps(dim)) - (tile_kivi(f) ? 16 : 0),
					  ikv_format_bytes((enum ikv_format)f, IKV_SIDE_K, TILE_TOKENS, dim) +
					      ikv_format_bytes((enum ikv_format)f, IKV_SIDE_V, TILE_TOKENS, dim));
}
END_TEST

/* Where the matrix instruction's lane 4g + t reads: K rows are tokens, V rows are channels. */
START_TEST(values_lie_with_their_lane)
{
	uint16_t k[16 * 64], v[16 * 64], tile[2 * 16 * 64];
	for (unsigned i = 0; i < 16 * 64; i++) {
		k[i] = (uint16_t)i;
		v[i] = (uint16_t)(i + 1024);
	}
	gpu_tile_pack(IKV_FMT_FP16, 16, 64, 64, 4, (const uint8_t *)k, (const uint8_t *)v, (uint8_t *)tile);
	for (unsigned lane = 0; lane < 32; lane++) {
		unsigned g = lane / 4, t = lane % 4;
		for (unsigned i = 0; i < 8; i++) {
			unsigned row = g + 8 * (i / 2 % 2), col = 2 * t + i % 2 + 8 * (i / 4);
			for (unsigned step = 0; step < 4; step++) {
				must(tile[step * 256 + lane * 8 + i] == row * 64 + step * 16 + col);
				ck_assert_uint_eq(tile[1024 + step * 256 + lane * 8 + i],
						  1024 + col * 64 + step * 16 + row);
			}
		}
	}
}
END_TEST

/* Summaries of one layer are those of the exact store: as words for the device, channels where a lane looks for them. */
static void check_summaries(const struct summaries *s, const struct ikv_exact *x, uint32_t layer)
{
	const struct ikv_geometry *g = &s->g;
	const struct summary_list *l = summaries_list(s, 0, layer);
	uint32_t pages = ikv_pages(ikv_exact_tokens(x, 0, layer), g->page_tokens), bytes = (uint32_t)summaries_page_bytes(s);
	ck_assert_uint_eq(l->pages, pages);
	uint32_t *words = malloc((size_t)pages * bytes + 4);
	summaries_pack(s, l, 0, pages, words);
	for (uint32_t page = 0; page < pages; page++) {
		for (uint32_t h = 0; h < g->kv_heads; h++) {
			const uint32_t *w = words + ((size_t)page * g->kv_heads + h) * s->words;
			const float *sum = ikv_exact_ksum(x, 0, layer, page, h);
			for (uint32_t d = 0; s->kind == IKV_PAGE_COSINE && d < s->words; d++) {
				float has, want = d < g->d_qk ? sum[d] : 0;
				memcpy(&has, &w[cosine_word(d)], sizeof has);
				must_msg(!memcmp(&has, &want, sizeof has), "page %u, head %u, channel %u: %g, sum %g", page,
					 h, d, (double)has, (double)want);
			}
			if (s->kind == IKV_PAGE_COSINE)
				continue;
			const uint16_t *least = ikv_exact_kmin(x, 0, layer, page, h), *most = ikv_exact_kmax(x, 0, layer, page, h);
			for (uint32_t d = 0; d < s->words; d++) {
				float low = ikv_fp16_to_float((uint16_t)w[select_word(d)]),
				      high = ikv_fp16_to_float((uint16_t)(w[select_word(d)] >> 16));
				must_msg(d < g->d_qk ? low == ikv_fp16_to_float(least[d]) && high == ikv_fp16_to_float(most[d])
						     : !low && !high,
					 "page %u, head %u, channel %u: %g to %g", page, h, d, (double)low, (double)high);
			}
		}
	}
	free(words);
}

START_TEST(summaries_are_those_of_the_exact_store)
{
	static const uint32_t dims[] = {64, 80, 128, 576, 1, 97}, pages[] = {16, 1, 7, 64, 128, 24};
	struct ikv_rng r;
	struct ikv_err err;
	ikv_rng_stream(&r, 7, (enum ikv_stream)0, 0, 0);
	for (int round = 0; round < 24; round++) {
		struct ikv_geometry g = {.layers = 2,
					 .q_heads = 3,
					 .kv_heads = 3,
					 .d_qk = dims[round % 6],
					 .d_v = 1,
					 .page_tokens = pages[(round + round / 6) % 6],
					 .scale = 1};
		struct ikv_exact *x;
		struct summaries s;
		uint32_t row = g.kv_heads * g.d_qk, tokens = 0;
		uint16_t *k = malloc(2 * (size_t)row * 300), *v = calloc(300 * g.kv_heads, 2);
		ck_assert_int_eq(ikv_exact_create(&x, &g, 1, &err), 0);
		ck_assert_int_eq(summaries_open(&s, round < 12 ? IKV_PAGE_BOUND : IKV_PAGE_COSINE, &g, 1, &err), 0);
		for (int step = 0; step < 8; step++) {
			uint32_t n = 1 + (uint32_t)ikv_rng_below(&r, 299);
			for (uint32_t i = 0; i < n * row; i++)
				k[i] = ikv_fp16_from_float((float)ikv_rng_normal(&r) * (step % 3 ? 1 : 1e-7f));
			for (uint32_t layer = 0; layer < 2; layer++) {
				ck_assert_int_eq(ikv_exact_append(x, 0, layer, n, k, v, &err), 0);
				ck_assert_int_eq(summaries_append(&s, 0, layer, n, k, &err), 0);
				check_summaries(&s, x, layer);
			}
			tokens += n;
			uint32_t keep = (uint32_t)ikv_rng_below(&r, tokens + 1), page = keep / g.page_tokens;
			ck_assert_int_eq(ikv_exact_truncate(x, 0, keep, &err), 0);
			for (uint32_t layer = 0; layer < 2; layer++) {
				struct summary_list *l = summaries_list(&s, 0, layer);
				summaries_cut(&s, 0, layer, keep);
				ck_assert_uint_le(l->dirty_to, l->pages);
				if (keep % g.page_tokens) {
					summaries_set(&s, 0, layer, 0, g.kv_heads, page, keep % g.page_tokens,
						      ikv_exact_k(x, 0, layer, page, 0));
					ck_assert(l->dirty_from <= page && page < l->dirty_to);
				}
				check_summaries(&s, x, layer);
				if (step == 4) /* as after an upload */
					l->dirty_from = l->dirty_to = 0;
			}
			tokens = keep;
		}
		summaries_close(&s);
		ikv_exact_destroy(x);
		free(k);
		free(v);
	}
}
END_TEST

/* Codes of 2 bits: a lane's half word has two columns in its bytes; bits 0, 1 and 4, 5 are of row g, the others of
 * row g + 8. What the kernel masks out of each byte, moved left by 6 and 2, is the code in the units 2^6 and 2^8. */
START_TEST(small_codes_lie_with_their_lane)
{
	uint16_t rows[16 * 64];
	uint8_t k[16 * 64], v[16 * 64], tile[16 * 64];
	struct ikv_err err;
	for (unsigned i = 0; i < 16 * 64; i++) /* each channel has 0 and 3: scale 1, zero 0 */
		rows[i] = ikv_fp16_from_float((float)((i / 64 * 5 + i % 64 * 3 + i / 256) % 4));
	ck_assert_uint_le(tile_bytes(IKV_FMT_KIVI2, 4), sizeof tile);
	ck_assert_int_eq(ikv_format_encode(IKV_FMT_KIVI2, IKV_SIDE_K, rows, 16, 64, k, &err), 0);
	ck_assert_int_eq(ikv_format_encode(IKV_FMT_KIVI2, IKV_SIDE_V, rows, 16, 64, v, &err), 0);
	gpu_tile_pack(IKV_FMT_KIVI2, 16, 64, 64, 4, k, v, tile);
	for (unsigned i = 0; i < 4 * 32 * 8; i++) {
		unsigned step = i / 256, lane = i / 8 % 32, value = i % 8, g = lane / 4, t = lane % 4;
		unsigned byte = tile[step * 64 + lane * 2 + value % 2], moved = value < 4 ? byte << 6 : byte << 2;
		unsigned row = g + 8 * (value / 2 % 2), col = 2 * t + value % 2 + 8 * (value / 4);
		unsigned code = value / 2 % 2 ? (moved & 0x300) >> 8 : (moved & 0xc0) >> 6;
		ck_assert_float_eq((float)code, ikv_fp16_to_float(rows[row * 64 + step * 16 + col]));
	}
}
END_TEST

/* A tile that begins in its slot where it begins in a line of memory ends in the slot. */
START_TEST(tiles_fit_their_slots)
{
	static const uint32_t widths[] = {4, 5, 6, 8, 16};
	for (unsigned w = 0; w < sizeof widths / sizeof *widths; w++)
		for (uint32_t f = 1; f <= TILE_BF16_WIDE; f++) {
			uint32_t bytes = tile_bytes(f, widths[w]), room = tile_room(bytes), most = 0;
			if (!bytes)
				continue;
			for (uint32_t i = 0; i < 128; i++)
				most = i * bytes % 128 > most ? i * bytes % 128 : most;
			ck_assert_uint_eq(room % 128, 0);
			ck_assert(bytes + most <= room && room < bytes + most + 128);
		}
}
END_TEST

static void check_split(struct split_job *jobs, uint32_t count, const struct split_rule *rule)
{
	uint32_t blocks = rule->blocks;
	struct split_piece *p = calloc(split_most(count, blocks), sizeof *p);
	uint32_t used = 0, seen = 0;
	uint32_t n = split_jobs(jobs, count, rule, p, &used);
	double total = 0, most = 0, largest = 0;
	ck_assert_uint_le(n, split_most(count, blocks));
	ck_assert(used >= 1 && used <= blocks && n >= used);
	/* Pieces cover each job once, in order. */
	for (uint32_t j = 0, i = 0; j < count; j++) {
		uint32_t at = 0;
		do {
			ck_assert(i < n && p[i].job == j && p[i].first == at &&
				  (p[i].end > at || jobs[j].tiles == 0));
			/* A part after the first one begins its block, which comes later: the block of the last part waits for the others. */
			ck_assert(at == 0 || (p[i].at == p[i].block && p[i].block > p[i - 1].block));
			at = p[i++].end;
		} while (at < jobs[j].tiles);
		ck_assert_uint_eq(at, jobs[j].tiles);
		total += jobs[j].tiles * jobs[j].weight;
		largest = jobs[j].weight > largest ? jobs[j].weight : largest;
		ck_assert(j + 1 < count || i == n);
	}
	/* Every piece is on one block's list, and no block has much more than its share. */
	for (uint32_t b = 0; b < used; b++) {
		double load = 0;
		for (uint32_t at = b; at != ATTEND_NONE; seen++) {
			uint32_t i = 0;
			while (i < n && p[i].at != at)
				i++;
			ck_assert_uint_lt(i, n);
			load += (p[i].end - p[i].first) * jobs[p[i].job].weight + SPLIT_PIECE_BYTES;
			if (at != b && p[i].next != ATTEND_NONE) /* neither the first nor the last: a whole job */
				ck_assert(p[i].first == 0 && p[i].end == jobs[p[i].job].tiles);
			at = p[i].next;
		}
		most = load > most ? load : most;
	}
	ck_assert_uint_eq(seen, n);
	ck_assert(most <= rule->slack * ((total + n * SPLIT_PIECE_BYTES) / used + SPLIT_PIECE_BYTES +
					 2.5 * rule->least * largest));
	free(p);
}

START_TEST(work_is_cut_evenly)
{
	struct ikv_rng r;
	struct split_job jobs[64];
	ikv_rng_stream(&r, 6, (enum ikv_stream)0, 0, 0);
	for (int i = 0; i < 500; i++) {
		uint32_t count = 1 + (uint32_t)ikv_rng_below(&r, 64);
		for (uint32_t j = 0; j < count; j++) {
			uint32_t tiles = ikv_rng_below(&r, 4) ? (uint32_t)ikv_rng_below(&r, i % 2 ? 40 : 4000) : 0;
			jobs[j] = (struct split_job){tiles, 1000 + (double)ikv_rng_below(&r, 7000)};
		}
		struct split_rule rule = {.blocks = 1 + (uint32_t)ikv_rng_below(&r, 140),
					  .least = 1 + (uint32_t)ikv_rng_below(&r, 12),
					  .round = 1,
					  .slack = ikv_rng_below(&r, 2) ? ATTEND_SLACK : 1};
		rule.round = ikv_rng_below(&r, 2) ? rule.least : 1;
		check_split(jobs, count, &rule);
	}
}
END_TEST

/* Any series of wishes leaves a page where the last one wanted it, and it is never in a queue without need. */
START_TEST(moves_end_where_they_were_wanted)
{
	struct ikv_rng r;
	ikv_rng_stream(&r, 7, (enum ikv_stream)0, 0, 0);
	for (int i = 0; i < 2000; i++) {
		unsigned where = ikv_rng_below(&r, 2) ? MOVES_HOST : MOVES_DEVICE;
		bool waits = false; /* for the copy before attention */
		enum ikv_place last = IKV_PLACE_FAST;
		uint32_t wishes = 1 + (uint32_t)ikv_rng_below(&r, 6);
		for (uint32_t k = 0; k < wishes; k++) {
			bool queued = where & MOVES_QUEUED;
			last = (enum ikv_place)ikv_rng_below(&r, 3);
			switch (moves_decide(where, last)) {
			case MOVES_NOW:
			case MOVES_BESIDE:
				ck_assert(!queued);
				waits = moves_decide(where, last) == MOVES_NOW;
				where |= MOVES_QUEUED;
				break;
			case MOVES_HURRY:
				ck_assert(queued && where & MOVES_HOST);
				waits = true;
				break;
			case MOVES_STAY:
				ck_assert(queued);
				where &= ~(unsigned)MOVES_QUEUED;
				break;
			case MOVES_NOTHING:
				break;
			}
			/* Where it is going to be: elsewhere than now if it is queued. */
			bool host = !(where & MOVES_HOST) != !(where & MOVES_QUEUED);
			ck_assert_int_eq(host, last == IKV_PLACE_SLOW);
			ck_assert(last != IKV_PLACE_FAST || !(where & MOVES_QUEUED) || waits);
		}
	}
}
END_TEST

static struct moves_item item_of(uint32_t i)
{
	return (struct moves_item){.list = i % 6, .page = i / 6, .head = i % 3, .from = i, .out = i % 2};
}

/* Queues give back what was put in, in order, whatever is taken out of the middle. */
START_TEST(queues_lose_nothing)
{
	struct moves m = {0}, part = {0}, due = {0};
	struct moves_item x;
	struct ikv_err err = {0};
	for (uint32_t i = 0; i < 300; i++) {
		x = item_of(i);
		ck_assert_int_eq(moves_add(&m, &x, &err), 0);
	}
	for (uint32_t i = 0; i < 300; i += 7) {
		struct moves_item want = item_of(i);
		ck_assert(moves_take(&m, want.list, want.page, want.head, &x));
		ck_assert_uint_eq(x.from, i);
		ck_assert(!moves_take(&m, want.list, want.page, want.head, &x));
	}
	/* lists are of sequences times 3 layers */
	ck_assert_int_eq(moves_split(&m, 1, 3, &part, &err), 0);
	uint32_t seen = 0;
	for (uint32_t i = 0; i < 300; i++) {
		if (i % 7 == 0 || i % 6 % 3 != 1)
			continue;
		ck_assert_uint_lt(seen, part.count);
		ck_assert_uint_eq(part.items[seen++].from, i);
	}
	ck_assert_uint_eq(seen, part.count);
	ck_assert_int_eq(moves_split(&m, 3, 3, &due, &err), 0);
	ck_assert_uint_eq(m.count, 0);
	ck_assert_uint_eq(due.count + part.count, 300 - 43);
	for (uint32_t i = 1; i < due.count; i++)
		ck_assert(due.items[i].from > due.items[i - 1].from && due.items[i].list % 3 != 1);
	moves_free(&m);
	moves_free(&part);
	moves_free(&due);
}
END_TEST

/* Copies before attention are exposed; those beside it by what is left of them when attention ends. */
START_TEST(waiting_is_what_is_exposed)
{
	static const struct {
		struct moves_times t;
		double transfer, exposed;
	} cases[] = {
	    {{.attention = 5}, 0, 0},
	    {{.attention = 5, .before = 2}, 2, 2},
	    {{.attention = 5, .beside = 3, .end = 3.5}, 3, 0},
	    {{.attention = 5, .beside = 7.75, .end = 8}, 7.75, 3},
	    {{.attention = 5, .before = 1, .beside = 8, .end = 8}, 9, 4},
	    {{.attention = 0.5, .beside = 2, .end = 3}, 2, 2}, /* no more than there is */
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		double transfer, exposed;
		moves_account(&cases[i].t, &transfer, &exposed);
		ck_assert_double_eq(transfer, cases[i].transfer);
		ck_assert_double_eq(exposed, cases[i].exposed);
	}
}
END_TEST

int main(void)
{
	Suite *s = suite_create("gpu");
	TCase *tc = tcase_create("gpu");
	tcase_add_test(tc, tiles_keep_every_bit);
	tcase_add_test(tc, wide_numbers_are_kept);
	tcase_add_test(tc, latent_groups_keep_every_bit);
	tcase_add_test(tc, tiles_waste_nothing);
	tcase_add_test(tc, values_lie_with_their_lane);
	tcase_add_test(tc, summaries_are_those_of_the_exact_store);
	tcase_add_test(tc, small_codes_lie_with_their_lane);
	tcase_add_test(tc, tiles_fit_their_slots);
	tcase_add_test(tc, work_is_cut_evenly);
	tcase_add_test(tc, moves_end_where_they_were_wanted);
	tcase_add_test(tc, queues_lose_nothing);
	tcase_add_test(tc, waiting_is_what_is_exposed);
	suite_add_tcase(s, tc);
	return tap_run(s);
}
