/* Between the host side and the kernels: what one launch of attention reads and writes. Every pointer is to device
 * memory. docs/gpu.md describes the scheme. */
#ifndef GPU_ATTEND_H
#define GPU_ATTEND_H

#include <stdint.h>
#include "intentkv/plan.h"

#define ATTEND_HEADS_MAX 16u         /* query heads of a job */
#define ATTEND_ROWS_MAX  (1u << 27) /* of a launch */
#define ATTEND_SLACK     1.04        /* split_rule.slack: 128 blocks read as fast as 132 */
#define ATTEND_NONE      UINT32_MAX

/* An entry of a page table: address of the page's first tile, with the format in its low four bits. */
typedef uint64_t attend_entry;

/* What a block reads next: a tile's address with the format in its low four bits, and in the high 16 bits the tokens
 * of it that are selected. Without any the tile is not read. */
typedef uint64_t attend_word;

/* Query heads of one unit that share a KV head. Its tiles have *places*: with n parts, the order 0, n, 2n, …, 1,
 * n + 1, …, so that blocks that work side by side read what lies side by side. */
struct attend_job {
	uint32_t row, heads;        /* of q, out and lse */
	uint32_t tiles;             /* pages of the plan times tiles of a page */
	uint32_t parts, first_part; /* pieces it is cut into; with one, nothing is merged */
	uint32_t pages;
	uint64_t mass; /* of its first page and head in `mass`; heads are `pages` apart. UINT64_MAX: not wanted */
	uint64_t tile_mass; /* the same in tile_mass, by places; heads `tiles` apart */
};

/* Part of a job, done by one block: `tiles` places from `first`. A block's segments are a list that begins at the block's
 * index, and their words follow each other. They are whole jobs but for the first and the last one. */
struct attend_segment {
	uint32_t job, first, tiles;
	uint32_t row, heads, parts, first_part; /* as in the job */
	uint32_t part, next;                    /* next segment, or ATTEND_NONE */
	uint32_t next_row, next_heads;          /* its */
	uint32_t joins;                         /* 1: it is the last part of several, which its block joins */
};

/* What a job's words are made of. */
struct attend_list {
	const struct ikv_page_ref *refs;
	const uint64_t *masks;
	const attend_entry *table; /* of the KV head, entries `stride` apart */
	uint64_t first;            /* of its words */
	uint64_t limit;            /* tokens of the sequence from this on are not seen */
	uint32_t stride, tiles, parts;
};

#define ATTEND_ANY        15u /* attend_config.format: tiles in any format */
#define ATTEND_BLOCKS_MAX 320u
#define ATTEND_FORMATS    16u

struct attend_args {
	const attend_word *words; /* at a multiple of 16 bytes, and room for an even number */
	const struct attend_segment *segments; /* at a multiple of 16 bytes */
	const struct attend_job *jobs;
	const float *q;    /* [rows][d_qk], at a multiple of 16 bytes */
	float *out;        /* [rows][d_v] */
	float *lse;        /* [rows] */
	float *mass;       /* as the jobs say */
	float *tile_mass;  /* {sum, reference} of each tile and head, as the jobs say */
	/* Sums of parts (attend_part_bytes): all bits set before and after a launch. */
	float *parts;     /* [parts][heads of a block][padded width] */
	float *part_sums; /* [parts][heads of a block][padded width / 4][2]: reference, sum */
	uint32_t d_qk, d_v, page_tokens;
	float scale;
	uint32_t slots, slot_bytes;            /* of a block's stream of tiles */
	uint32_t overlap;                      /* set by attend_launch */
	uint32_t bytes[ATTEND_FORMATS];        /* of a tile */
	uint32_t start[ATTEND_BLOCKS_MAX + 1]; /* first word of each block; the last one's end */
	uint32_t queries[ATTEND_BLOCKS_MAX];   /* of a block's first segment: row times 32, plus heads */
};

struct attend_config {
	uint32_t steps;             /* tile_steps of the wider of d_qk and d_v */
	uint32_t heads;             /* of a block: 4, 8 or 16 */
	uint32_t format, four_bits; /* of all tiles, 0 where they differ, ATTEND_ANY if there are any but the first five;
				       1: there are 4-bit codes */
	uint32_t blocks, warps;
	uint32_t shared; /* bytes of a block */
	uint32_t
	    overlap; /* begin while the kernel before it on the stream ends. 1: that one must not write words or pages;
			2: it may, and they are waited for */
};

/* Place of a tile among `tiles` in `parts` parts, and the tile at a place. */
#ifdef __CUDACC__
__host__ __device__
#endif
    static inline uint32_t
    attend_place(uint32_t tile, uint32_t tiles, uint32_t parts)
{
	uint32_t each = tiles / parts, longer = tiles % parts, part = tile % parts;
	return part * each + (part < longer ? part : longer) + tile / parts;
}

/* Bytes of `parts` for so many; `part_sums` has half of that. */
static inline uint64_t attend_part_bytes(uint64_t parts, uint32_t heads, uint32_t steps)
{
	return 64 * parts * heads * steps;
}

#ifdef __cplusplus
extern "C" {
#endif

/* Heads of a block for jobs of at most so many. */
static inline uint32_t attend_heads(uint32_t most)
{
	return most <= 4 ? 4 : most <= 8 ? 8 : 16;
}

/* Slots for a multiprocessor's shared memory with one block. `formats`: a bit for each that tiles are in;
 * `slot_bytes`: the largest tile_room of theirs. Returns the slots of a block, 0 if it does not fit. */
uint32_t attend_configure(uint32_t steps, uint32_t heads, uint32_t slot_bytes, uint32_t shared_bytes,
			  uint32_t formats, struct attend_config *config);

/* Let the kernels of a width take up to `shared` bytes. Both return a cudaError_t; `stream` is a cudaStream_t. */
int attend_prepare(uint32_t steps, uint32_t shared);
/* The words of `count` jobs, of `tiles_max` tiles at most each. `overlap`: begin while the kernel before it ends. */
int attend_resolve(const struct attend_list *lists, uint32_t count, uint32_t tiles_max, attend_word *words,
		   uint32_t page_tokens, uint32_t steps, uint32_t overlap, void *stream);
int attend_launch(const struct attend_args *args, const struct attend_config *config, void *stream);

#ifdef __cplusplus
}
#endif
#endif
