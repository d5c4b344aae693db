// Scatter one uploaded buffer to many places: a copy from the host for each piece would cost microseconds.
#include <cuda_runtime.h>
#include "gpu/move.h"

__global__ static void scatter(const uint8_t *buffer, const move_item *items)
{
	move_item item = items[blockIdx.x];
	const uint8_t *from = buffer + item.from;
	uint8_t *to = reinterpret_cast<uint8_t *>(item.to);
	if ((item.from | item.to | item.bytes) % 16 == 0) {
		for (uint32_t i = threadIdx.x * 16; i < item.bytes; i += blockDim.x * 16)
			*reinterpret_cast<uint4 *>(to + i) = *reinterpret_cast<const uint4 *>(from + i);
		return;
	}
	for (uint32_t i = threadIdx.x * 8; i < item.bytes; i += blockDim.x * 8)
		*reinterpret_cast<uint2 *>(to + i) = *reinterpret_cast<const uint2 *>(from + i);
}

int move_scatter(const void *buffer, const move_item *items, uint32_t count, void *stream)
{
	scatter<<<count, 128, 0, (cudaStream_t)stream>>>((const uint8_t *)buffer, items);
	return cudaGetLastError();
}
