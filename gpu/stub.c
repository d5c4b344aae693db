/* A build without CUDA. */
#include "config.h"
#include "backend.h"

#include <stdio.h>

void backend_why_not(char *why, size_t size)
{
	snprintf(why, size, "built without CUDA: %s", CUDA_WHY_NOT);
}

void gpu_describe(char *text, size_t size)
{
	backend_why_not(text, size);
}
