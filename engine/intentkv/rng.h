/* Seeded streams of random numbers, and elementary functions with fixed bits.
 *
 * A stream belongs to (seed, component, session, step), so that a decision does
 * not depend on which other components drew before it, on threads or on restarts.
 * The generator is xoshiro256** (Blackman and Vigna, 2018), seeded by splitmix64.
 *
 * glibc's exp, log, sin and pow may change bits between CPUs with and without
 * FMA. What feeds a decision uses the ikv_det_* functions: plain double
 * multiplications and additions, the same bits everywhere. */
#ifndef INTENTKV_RNG_H
#define INTENTKV_RNG_H

#include <stdint.h>
#include "error.h"

/* Components with a stream of their own. Append only: numbers seed streams. */
enum ikv_stream {
	IKV_STREAM_SESSION = 1,
	IKV_STREAM_SOURCE = 2,
	IKV_STREAM_SCORER = 3,
	IKV_STREAM_ROUTER = 4,
	IKV_STREAM_MEMORY = 5,
	IKV_STREAM_PREFETCH = 6,
	IKV_STREAM_SPECATTN = 7,
	IKV_STREAM_TEST = 8,
	IKV_STREAM_COMPARE = 16,
	IKV_STREAM_SWEEP = 9,
};

struct ikv_rng {
	uint64_t s[4];
};

IKV_API void ikv_rng_stream(struct ikv_rng *r, uint64_t seed, enum ikv_stream component, uint64_t session,
			    uint64_t step);
IKV_API uint64_t ikv_rng_u64(struct ikv_rng *r);
IKV_API double ikv_rng_uniform(struct ikv_rng *r);             /* [0, 1), 53 bits */
IKV_API uint64_t ikv_rng_below(struct ikv_rng *r, uint64_t n); /* [0, n), unbiased; n > 0 */
IKV_API double ikv_rng_normal(struct ikv_rng *r);              /* mean 0, variance 1, deterministic bits */

/* Mix one or two 64-bit values into a well-spread one (splitmix64's finaliser). */
IKV_API uint64_t ikv_mix64(uint64_t x);
IKV_API uint64_t ikv_mix64_2(uint64_t a, uint64_t b);

/* Elementary functions with fixed bits; relative error about 1e-13 (sin, cos: absolute). */
IKV_API double ikv_det_exp(double x); /* 0 below -745, inf above 709 */
IKV_API double ikv_det_log(double x); /* x > 0 */
IKV_API double ikv_det_sin(double x); /* |x| < 2^30 */
IKV_API double ikv_det_cos(double x);
IKV_API double ikv_det_pow(double x, double y); /* x > 0 */

#endif
