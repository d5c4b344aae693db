/* The backend `cuda` of a build without CUDA: never usable. It says why and refuses to open, rather than computing
 * somewhere else. */
#include "backend.h"

static bool usable(char *why, size_t size)
{
	backend_why_not(why, size);
	return false;
}

static int refuse(struct ikv_backend **out, const struct ikv_geometry *geometry,
		  const struct ikv_backend_config *config, struct ikv_err *err)
{
	char why[500];
	(void)geometry;
	(void)config;
	*out = NULL;
	backend_why_not(why, sizeof why);
	return ikv_err_set(err, IKV_UNAVAILABLE, "attention backend \"cuda\" is not available: %s", why);
}

const struct ikv_backend_ops *gpu_backend(void)
{
	static const struct ikv_backend_ops ops = {
	    .name = "cuda",
	    .summary = "CUDA device; not available in this build",
	    .usable = usable,
	    .open = refuse,
	};
	return &ops;
}
