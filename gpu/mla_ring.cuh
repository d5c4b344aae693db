// Shared memory of the latent kernel for compute capability 9.0, and how its warpgroups pass stages on. A ring of three
// stages: one is on its way while scores are found with another and the third is added to the answer.
#ifndef GPU_MLA_RING_CUH
#define GPU_MLA_RING_CUH

#include "gpu/mla_part.cuh"
#include "gpu/mla_ptx.cuh"

#define STAGES       3u
#define STAGE_GROUPS MLA_STAGE_GROUPS
#define STAGE_BYTES  (STAGE_GROUPS * MLA_GROUP_BYTES)
#define STAGE_BLOCKS (STAGE_GROUPS / 2) // of 16 tokens, whose places are free one after the other
#define STEPS        (MLA_CHUNKS * 4)   // of 16 channels
#define ROWS         64u
#define BLOCK_BYTES  2048u // of weights
#define WEIGHT_BYTES (STAGE_BLOCKS * BLOCK_BYTES)

// Of a stage's scores so many steps have been asked for when the weights before it are handed over. The outputs' products with
// those then run while this stage's weights are found, when the matrix units would be idle.
#define HAND_OVER 24

// MLA_CODES: pages may have codes. The warps that copy then hold a group of them in registers, which come from those that
// compute scores.
#if MLA_CODES
#define HELD            12 // steps of the queries in registers; the others are in shared memory
#define SCORE_REGISTERS 112
#define COPY_REGISTERS  80
#define WEIGHTS         2u // buffers of a stage's weights
#else
#define HELD            20
#define SCORE_REGISTERS 152
#define COPY_REGISTERS  40
#define WEIGHTS         3u
#endif

// Bytes from the start of shared memory.
#define AT_QUERY   (STAGES * STAGE_BYTES)
#define AT_WEIGHTS (AT_QUERY + (STEPS - HELD) * 2048u)
#define AT_SHRINK  (AT_WEIGHTS + WEIGHTS * WEIGHT_BYTES) // [WEIGHTS][64]
#define AT_RESULT  (AT_SHRINK + WEIGHTS * 256u)          // {reference, sum} [64]
#define AT_MASKS   (AT_RESULT + 512u)                    // [STAGES][8] bytes, one a group
#define AT_MOVED   (AT_MASKS + STAGES * 8u)              // [WEIGHTS][4]: did a warp's references move
#define AT_FULL    (AT_MOVED + WEIGHTS * 16u)            // barriers: [STAGES]
#define AT_EMPTY   (AT_FULL + STAGES * 8u)               // [STAGES][STAGE_BLOCKS]
#define AT_WEIGHED (AT_EMPTY + STAGES * STAGE_BLOCKS * 8u) // [WEIGHTS]
#define AT_USED    (AT_WEIGHED + WEIGHTS * 8u)           // [WEIGHTS]
#define AT_DONE    (AT_USED + WEIGHTS * 8u)
#define AT_TAKEN   (AT_DONE + 8)
#define AT_NOTES   (AT_TAKEN + 8)                        // [4][64]: of the copying warps' groups
#define SHARED     (AT_NOTES + 2048 + 1024)

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

template <uint32_t n> DEVICE uint32_t slot_before(const ring &r)
{
	return r.slot ? r.slot - 1 : n - 1;
}

DEVICE uint32_t stages_of(const mla_segment &s)
{
	return (s.end - s.first + STAGE_GROUPS - 1) / STAGE_GROUPS;
}

#endif
