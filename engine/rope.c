/* Rotary position embedding. Frequencies and angles use the fixed-bits functions: rotated keys feed scores. */
#include "intentkv/rng.h"
#include "intentkv/rope.h"

#define TWO_PI     6.283185307179586
#define PAIRS_STEP 64

static const char *const scaling_names[] = {"plain", "llama3", "yarn", NULL};
#define AT(field) offsetof(struct ikv_rope_config, field)
const struct ikv_option ikv_rope_options[] = {
    {"base", IKV_OPT_REAL, AT(base), "500000", 1.0001, 1e12, NULL, "theta, the base of the frequencies"},
    {"scaling", IKV_OPT_ENUM, AT(scaling), "plain", 0, 0, scaling_names, "how frequencies are stretched"},
    {"factor", IKV_OPT_REAL, AT(factor), "8", 1, 1e6, NULL, "llama3, yarn: context extension"},
    {"low_freq_factor", IKV_OPT_REAL, AT(low_freq_factor), "1", 1e-6, 1e6, NULL, "llama3"},
    {"high_freq_factor", IKV_OPT_REAL, AT(high_freq_factor), "4", 1e-6, 1e6, NULL, "llama3"},
    {"original_context", IKV_OPT_REAL, AT(original_context), "8192", 1, 1e9, NULL,
     "llama3, yarn: tokens the model was trained on"},
    {"beta_fast", IKV_OPT_REAL, AT(beta_fast), "32", 1e-6, 1e6, NULL, "yarn: rotations above which nothing changes"},
    {"beta_slow", IKV_OPT_REAL, AT(beta_slow), "1", 1e-6, 1e6, NULL, "yarn: rotations below which all is stretched"},
    IKV_OPTION_END};

/* Llama 3.1: long waves are stretched, short ones stay, between them a linear blend in context / wavelength. */
static double llama3(const struct ikv_rope_config *c, double freq)
{
	double turns = c->original_context * freq / TWO_PI;
	if (turns > c->high_freq_factor)
		return freq;
	if (turns < c->low_freq_factor)
		return freq / c->factor;
	double smooth = (turns - c->low_freq_factor) / (c->high_freq_factor - c->low_freq_factor);
	return (1 - smooth) * freq / c->factor + smooth * freq;
}

/* YaRN (Peng et al. 2023): the pair index at which a wave turns `rotations` times in the original context. */
static double yarn_index(const struct ikv_rope_config *c, uint32_t dim, double rotations)
{
	return dim * ikv_det_log(c->original_context / (rotations * TWO_PI)) / (2 * ikv_det_log(c->base));
}

static double floor_of(double x)
{
	double whole = (double)(int64_t)x;
	return whole > x ? whole - 1 : whole;
}

static void yarn(const struct ikv_rope_config *c, uint32_t dim, double *inv_freq)
{
	double low = floor_of(yarn_index(c, dim, c->beta_fast)), high = -floor_of(-yarn_index(c, dim, c->beta_slow));
	if (low < 0)
		low = 0;
	if (high > dim - 1)
		high = dim - 1;
	if (high <= low)
		high = low + 0.001;
	for (uint32_t i = 0; i < dim / 2; i++) {
		double ramp = (i - low) / (high - low);
		ramp = ramp < 0 ? 0 : ramp > 1 ? 1 : ramp;
		inv_freq[i] = inv_freq[i] / c->factor * ramp + inv_freq[i] * (1 - ramp);
	}
}

int ikv_rope_frequencies(const struct ikv_rope_config *c, uint32_t dim, double *inv_freq, double *attention_factor,
			 struct ikv_err *err)
{
	if (!dim || dim % 2)
		return ikv_err_set(err, IKV_BAD_INPUT, "rope: dimension %u is not even and positive", dim);
	if (!(c->base > 1))
		return ikv_err_set(err, IKV_BAD_INPUT, "rope.base: got %g, expected more than 1", c->base);
	if (c->scaling != IKV_ROPE_PLAIN && (!(c->factor >= 1) || !(c->original_context >= 1)))
		return ikv_err_set(err, IKV_BAD_INPUT, "rope: factor %g and original_context %g must be at least 1",
				   c->factor, c->original_context);
	if (c->scaling == IKV_ROPE_LLAMA3 && !(c->high_freq_factor > c->low_freq_factor))
		return ikv_err_set(err, IKV_BAD_INPUT, "rope.high_freq_factor: got %g, expected more than %g",
				   c->high_freq_factor, c->low_freq_factor);
	if (c->scaling == IKV_ROPE_YARN && (!(c->beta_fast > 0) || !(c->beta_slow > 0)))
		return ikv_err_set(err, IKV_BAD_INPUT, "rope: beta_fast %g and beta_slow %g must be more than 0",
				   c->beta_fast, c->beta_slow);
	for (uint32_t i = 0; i < dim / 2; i++) {
		inv_freq[i] = ikv_det_pow(c->base, -2.0 * i / dim);
		if (c->scaling == IKV_ROPE_LLAMA3)
			inv_freq[i] = llama3(c, inv_freq[i]);
	}
	*attention_factor = 1;
	if (c->scaling == IKV_ROPE_YARN) {
		yarn(c, dim, inv_freq);
		*attention_factor = 0.1 * ikv_det_log(c->factor) + 1;
	}
	return 0;
}

void ikv_rope_apply(float *x, uint32_t rows, uint32_t dim, const uint32_t *position, const double *inv_freq,
		    double attention_factor)
{
	double cosine[PAIRS_STEP], sine[PAIRS_STEP];
	uint32_t half = dim / 2;
	for (uint32_t first = 0; first < half; first += PAIRS_STEP) {
		uint32_t n = half - first < PAIRS_STEP ? half - first : PAIRS_STEP;
		for (uint32_t r = 0; r < rows; r++) {
			/* Heads of one token follow each other: their angles are the same. */
			for (uint32_t i = 0; (!r || position[r] != position[r - 1]) && i < n; i++) {
				double angle = position[r] * inv_freq[first + i];
				cosine[i] = ikv_det_cos(angle) * attention_factor;
				sine[i] = ikv_det_sin(angle) * attention_factor;
			}
			float *a = x + (size_t)r * dim + first, *b = a + half;
			for (uint32_t i = 0; i < n; i++) {
				double x1 = a[i], x2 = b[i];
				a[i] = (float)(x1 * cosine[i] - x2 * sine[i]);
				b[i] = (float)(x2 * cosine[i] + x1 * sine[i]);
			}
		}
	}
}
