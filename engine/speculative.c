/* Speculative sampling (Leviathan et al. 2023; Chen et al. 2023) and its closed forms. */
#include <math.h>
#include "intentkv/rng.h"
#include "intentkv/specattn.h"

static uint32_t argmax(const double *p, uint32_t n)
{
	uint32_t best = 0;
	for (uint32_t i = 1; i < n; i++)
		if (p[i] > p[best])
			best = i;
	return best;
}

/* A token from norm(max(p - q, 0)), or from p where q is NULL or nothing is left. */
static int sample(const double *p, const double *q, uint32_t n, struct ikv_rng *rng, uint32_t *token,
		  struct ikv_err *err)
{
	double sum = 0, at = 0;
	uint32_t last = UINT32_MAX;
	for (uint32_t i = 0; i < n; i++) {
		double v = q ? p[i] - q[i] : p[i];
		if (isnan(v) || p[i] < 0)
			return ikv_err_set(err, IKV_BAD_INPUT, "speculative: probability %u is not valid", i);
		sum += v > 0 ? v : 0;
	}
	if (!(sum > 0) || !isfinite(sum))
		return q ? sample(p, NULL, n, rng, token, err)
			 : ikv_err_set(err, IKV_BAD_INPUT, "speculative: probabilities sum to %g", sum);
	double u = ikv_rng_uniform(rng) * sum;
	for (uint32_t i = 0; i < n; i++) {
		double v = q ? p[i] - q[i] : p[i];
		if (v <= 0)
			continue;
		at += v;
		last = i;
		if (u < at)
			break;
	}
	*token = last;
	return 0;
}

int ikv_speculative_accept(const double *p, const double *q, const uint32_t *drafted, uint32_t gamma, uint32_t vocab,
			   bool greedy, struct ikv_rng *rng, uint32_t *tokens, uint32_t *token_count,
			   uint32_t *accepted, struct ikv_err *err)
{
	if (!vocab)
		return ikv_err_set(err, IKV_BAD_INPUT, "speculative: the vocabulary is empty");
	for (uint32_t i = 0; i < gamma; i++)
		if (drafted[i] >= vocab)
			return ikv_err_set(err, IKV_BAD_INPUT, "speculative: drafted token %u of %u", drafted[i],
					   vocab);
	uint32_t n = 0;
	for (; n < gamma; n++) {
		const double *pi = p + (size_t)n * vocab, *qi = q + (size_t)n * vocab;
		if (greedy ? argmax(pi, vocab) != drafted[n]
			   : !(ikv_rng_uniform(rng) * qi[drafted[n]] < pi[drafted[n]]))
			break;
		tokens[n] = drafted[n];
	}
	const double *next = p + (size_t)n * vocab;
	if (greedy)
		tokens[n] = argmax(next, vocab);
	else if (sample(next, n < gamma ? q + (size_t)n * vocab : NULL, vocab, rng, &tokens[n], err))
		return -1;
	*accepted = n;
	*token_count = n + 1;
	return 0;
}

double ikv_speculative_alpha(const double *p, const double *q, uint32_t vocab)
{
	double sum = 0;
	for (uint32_t i = 0; i < vocab; i++)
		sum += p[i] < q[i] ? p[i] : q[i];
	return sum;
}

/* (1 - alpha^(gamma+1)) / (1 - alpha), as the sum it stands for: exact at alpha = 1 too. */
double ikv_speculative_tokens(double alpha, uint32_t gamma)
{
	double sum = 1, term = 1;
	for (uint32_t i = 0; i < gamma; i++)
		sum += term *= alpha;
	return sum;
}

double ikv_speculative_speedup(double alpha, uint32_t gamma, double draft_cost, double verify_cost)
{
	return ikv_speculative_tokens(alpha, gamma) / (gamma * draft_cost + verify_cost);
}
