/* Elementary functions from plain double arithmetic: no libm, no fma, the same bits on every CPU. */
#include <stdint.h>
#include <string.h>
#include "intentkv/rng.h"

static double from_bits(uint64_t b)
{
	double x;
	memcpy(&x, &b, sizeof x);
	return x;
}

static uint64_t to_bits(double x)
{
	uint64_t b;
	memcpy(&b, &x, sizeof b);
	return b;
}

/* Nearest integer by the 1.5·2^52 trick; |x| < 2^51. */
static double nearest(double x)
{
	volatile double shifted = x + 0x1.8p52;
	return shifted - 0x1.8p52;
}

#define LN2_HI 0x1.62e42fefa3800p-1 /* trailing zeros: n·LN2_HI is exact for |n| < 2^11 */
#define LN2_LO 0x1.ef35793c76730p-45

double ikv_det_exp(double x)
{
	if (x != x)
		return x;
	if (x > 709.78)
		return __builtin_inf();
	if (x < -745.2)
		return 0;
	double n = nearest(x * 1.4426950408889634);
	double r = (x - n * LN2_HI) - n * LN2_LO; /* |r| <= ln2/2 */
	double p = 1;
	for (int k = 14; k >= 1; k--) /* Taylor by Horner: the tail is below 1e-18 */
		p = 1 + r * p / k;
	int e = (int)n, half = e / 2; /* in two factors, so that subnormal results round once */
	return p * from_bits((uint64_t)(1023 + half) << 52) * from_bits((uint64_t)(1023 + e - half) << 52);
}

double ikv_det_log(double x)
{
	if (x != x || x < 0)
		return __builtin_nan("");
	if (x == 0)
		return -__builtin_inf();
	if (x == __builtin_inf())
		return x;
	int e = 0;
	if (x < 0x1p-1022) {
		x *= 0x1p54;
		e = -54;
	}
	uint64_t b = to_bits(x);
	e += (int)(b >> 52) - 1023;
	double m = from_bits((b & 0xfffffffffffffu) | 0x3ff0000000000000u);
	if (m > 1.4142135623730951) {
		m /= 2;
		e++;
	}
	double f = (m - 1) / (m + 1), f2 = f * f, p = 0; /* log m = 2 atanh f, |f| < 0.1716 */
	for (int k = 21; k >= 3; k -= 2)
		p = (p + 1.0 / k) * f2;
	return e * LN2_HI + (2 * f + (2 * f * p + e * LN2_LO));
}

#define PIO2_HI  0x1.921fb54400000p+0 /* 33 bits: n·PIO2_HI is exact for n < 2^20 */
#define PIO2_MID 0x1.0b4611a600000p-34
#define PIO2_LO  0x1.3198a2e037073p-69

/* Remainder of x by pi/2 in [-pi/4, pi/4] and the quadrant. */
static double reduce(double x, int64_t *quadrant)
{
	double n = nearest(x * 0.6366197723675814);
	*quadrant = (int64_t)n;
	return ((x - n * PIO2_HI) - n * PIO2_MID) - n * PIO2_LO;
}

static double sin_small(double r)
{
	double r2 = r * r, p = 1;
	for (int k = 19; k >= 3; k -= 2)
		p = 1 - r2 * p / (k * (k - 1));
	return r * p;
}

static double cos_small(double r)
{
	double r2 = r * r, p = 1;
	for (int k = 20; k >= 2; k -= 2)
		p = 1 - r2 * p / (k * (k - 1));
	return p;
}

static double sin_quadrant(double x, int shift)
{
	int64_t q;
	double r = reduce(x, &q);
	switch ((q + shift) & 3) {
	case 0:
		return sin_small(r);
	case 1:
		return cos_small(r);
	case 2:
		return -sin_small(r);
	default:
		return -cos_small(r);
	}
}

double ikv_det_sin(double x)
{
	return sin_quadrant(x, 0);
}

double ikv_det_cos(double x)
{
	return sin_quadrant(x, 1);
}

double ikv_det_pow(double x, double y)
{
	return ikv_det_exp(y * ikv_det_log(x));
}
