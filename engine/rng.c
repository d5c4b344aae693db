#include "intentkv/rng.h"

uint64_t ikv_mix64(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

uint64_t ikv_mix64_2(uint64_t a, uint64_t b)
{
	return ikv_mix64(ikv_mix64(a) ^ (b * 0xd6e8feb86659fd93u));
}

void ikv_rng_stream(struct ikv_rng *r, uint64_t seed, enum ikv_stream component, uint64_t session, uint64_t step)
{
	uint64_t x = ikv_mix64_2(ikv_mix64_2(ikv_mix64_2(seed, (uint64_t)component), session), step);
	for (int i = 0; i < 4; i++)
		r->s[i] = x = ikv_mix64(x);
}

static uint64_t rotl(uint64_t x, int k)
{
	return x << k | x >> (64 - k);
}

uint64_t ikv_rng_u64(struct ikv_rng *r)
{
	uint64_t *s = r->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
	s[2] ^= s[0];
	s[3] ^= s[1];
	s[1] ^= s[2];
	s[0] ^= s[3];
	s[2] ^= t;
	s[3] = rotl(s[3], 45);
	return result;
}

double ikv_rng_uniform(struct ikv_rng *r)
{
	return (double)(ikv_rng_u64(r) >> 11) * 0x1p-53;
}

uint64_t ikv_rng_below(struct ikv_rng *r, uint64_t n)
{
	/* Reject the tail that would favour small values (Lemire's bound without the multiply trick). */
	uint64_t limit = -n % n, x;
	do
		x = ikv_rng_u64(r);
	while (x < limit);
	return x % n;
}

double ikv_rng_normal(struct ikv_rng *r)
{
	/* Marsaglia's polar method; the second value is dropped to keep one draw per call stateless. */
	double u, v, s;
	do {
		u = 2 * ikv_rng_uniform(r) - 1;
		v = 2 * ikv_rng_uniform(r) - 1;
		s = u * u + v * v;
	} while (s >= 1 || s == 0);
	return u * __builtin_sqrt(-2 * ikv_det_log(s) / s);
}
