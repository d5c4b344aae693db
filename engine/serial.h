/* Little-endian byte strings for saved state. A writer goes on counting when the buffer is full, so that a
 * first call with no buffer gives the size; a reader that runs out stays failed and gives zeros. */
#ifndef ENGINE_SERIAL_H
#define ENGINE_SERIAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

struct serial_out {
	unsigned char *at;
	size_t size, used;
};
struct serial_in {
	const unsigned char *at;
	size_t size, used;
	bool bad;
};

static inline void serial_put(struct serial_out *o, uint64_t v, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++, o->used++)
		if (o->at && o->used < o->size)
			o->at[o->used] = (unsigned char)(v >> (8 * i));
}

static inline void serial_put_real(struct serial_out *o, double x)
{
	uint64_t v;
	memcpy(&v, &x, sizeof v);
	serial_put(o, v, 8);
}

static inline uint64_t serial_get(struct serial_in *in, unsigned bytes)
{
	uint64_t v = 0;
	if (in->bad || in->size - in->used < bytes) {
		in->bad = true;
		return 0;
	}
	for (unsigned i = 0; i < bytes; i++)
		v |= (uint64_t)in->at[in->used++] << (8 * i);
	return v;
}

static inline double serial_get_real(struct serial_in *in)
{
	uint64_t v = serial_get(in, 8);
	double x;
	memcpy(&x, &v, sizeof x);
	return x;
}

/* A count of items of which each takes at least `item_bytes` more: never larger than the input can hold. */
static inline uint32_t serial_get_count(struct serial_in *in, size_t item_bytes)
{
	uint64_t n = serial_get(in, 4);
	if (in->bad || n > (in->size - in->used) / item_bytes) {
		in->bad = true;
		return 0;
	}
	return (uint32_t)n;
}

#endif
