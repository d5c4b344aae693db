// Shared memory of the latent kernel for compute capability 9.0, and how its warpgroups pass stages on. A ring of three
// stages: one is on its way while scores are found with another and the third is added to the answer.
#ifndef GPU_MLA_RING_CUH
#define GPU_MLA_RING_CUH

#include "gpu/mla_part.cuh"
#include "gpu/mla_ptx.cuh"

#define STAGES       3u
#define STAGE_GROUPS MLA_STAGE_GROUPS
#define STAGE_BYTES  (STAGE_GROUPS * MLA_GROUP_BYTES)
#define ROWS         64u
#define WEIGHTS      3u // buffers of a stage's weights, each in blocks of 16 tokens
#define BLOCK_BYTES  2048u
#define WEIGHT_BYTES (STAGE_GROUPS / 2 * BLOCK_BYTES)
#define RAW          8u // barriers of a copying warp for codes under way: it has at most two groups of each stage
#define HELD         4  // chunks of the queries in registers; the others are in shared memory

// Bytes from the start of shared memory.
#define AT_QUERY   (STAGES * STAGE_BYTES)
#define AT_WEIGHTS (AT_QUERY + (MLA_CHUNKS - HELD) * 8192u)
#define AT_SHRINK  (AT_WEIGHTS + WEIGHTS * WEIGHT_BYTES) // [WEIGHTS][64]
#define AT_RESULT  (AT_SHRINK + WEIGHTS * 256u)          // {reference, sum} [64]
#define AT_MASKS   (AT_RESULT + 512u)                    // [STAGES][8] bytes, one a group
#define AT_MOVED   (AT_MASKS + STAGES * 8u)              // [WEIGHTS][4]: did a warp's references move
#define AT_FULL    (AT_MOVED + WEIGHTS * 16u)            // barriers: [STAGES]
#define AT_EMPTY   (AT_FULL + STAGES * 8u)               // [STAGES]
#define AT_RAW     (AT_EMPTY + STAGES * 8u)              // [4][RAW]
#define AT_WEIGHED (AT_RAW + 4 * RAW * 8u)               // [WEIGHTS]
#define AT_USED    (AT_WEIGHED + WEIGHTS * 8u)           // [WEIGHTS]
#define AT_DONE    (AT_USED + WEIGHTS * 8u)
#define AT_TAKEN   (AT_DONE + 8)
#define SHARED     (AT_TAKEN + 8 + 1024)

struct ring { // place in a ring of `n`, with the parity of its round
	uint32_t slot, parity;
};

template <uint32_t n> DEVICE void advance(ring &r)
{
	if (++r.slot == n) {
		r.slot = 0;
		r.parity ^= 1;
	}
}

// The part of a segment's heads that is this block's; 0: none.
DEVICE uint32_t block_heads(const mla_segment &s, uint32_t rank)
{
	uint32_t first = rank * ROWS;
	return s.heads <= first ? 0 : s.heads - first < ROWS ? s.heads - first : ROWS;
}

DEVICE uint32_t stages_of(const mla_segment &s)
{
	return (s.end - s.first + STAGE_GROUPS - 1) / STAGE_GROUPS;
}

#endif
