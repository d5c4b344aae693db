// Shared memory of the latent kernel for compute capability 9.0, and how its warpgroups pass stages on.
#ifndef GPU_MLA_RING_CUH
#define GPU_MLA_RING_CUH

#include "gpu/mla_part.cuh"
#include "gpu/mla_ptx.cuh"

#define STAGES       4u
#define STAGE_TOKENS 32u
#define STAGE_BYTES  (4 * MLA_GROUP_BYTES)
#define ROWS         64u
#define WEIGHTS      4u // buffers of a stage's weights
#define HELD         4  // chunks of the queries in registers; the others are in shared memory
#define PARTS        2u // of a stage, each with its barrier: HELD_CHUNKS chunks of every group, and the rest

// Bytes from the start of shared memory.
#define AT_QUERY   (STAGES * STAGE_BYTES)
#define AT_WEIGHTS (AT_QUERY + (MLA_CHUNKS - HELD) * 8192u)
#define AT_SHRINK  (AT_WEIGHTS + WEIGHTS * 4096u)   // [WEIGHTS][64]
#define AT_RESULT  (AT_SHRINK + WEIGHTS * 256u)    // {reference, sum} [64]
#define AT_MASKS   (AT_RESULT + 512u)       // [STAGES] words
#define AT_MOVED   (AT_MASKS + 32u)                 // [WEIGHTS][4]: did a warp's references move
#define AT_FULL    (AT_MOVED + 64u)
#define AT_EMPTY   (AT_FULL + STAGES * PARTS * 8)   // AT_FULL: [STAGES][PARTS]
#define AT_WEIGHED (AT_EMPTY + STAGES * 8)          // [WEIGHTS]
#define AT_USED    (AT_WEIGHED + WEIGHTS * 8)    // [WEIGHTS]
#define AT_DONE    (AT_USED + WEIGHTS * 8)
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

// Always pairs, side by side in the ring: scores are found for 64 tokens.
DEVICE uint32_t stages_of(const mla_segment &s)
{
	return (s.end - s.first + 7) / 8 * 2;
}

// Barrier of a part of a stage.
DEVICE uint32_t full_barrier(uint32_t shared, uint32_t slot, uint32_t part)
{
	return shared + AT_FULL + (slot * PARTS + part) * 8;
}

#endif
