/* Device memory of the backend: slots for pages, one pool a format, and uploads gathered into few copies. */
#ifndef GPU_DEVICE_H
#define GPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include "gpu/move.h"
#include "gpu/gpu_tile.h"
#include "intentkv/error.h"

struct device_pool {                      /* slots of one size */
	uint64_t slot_bytes, chunk_slots; /* chunk_slots: of the newest chunk */
	void **chunks;
	uint64_t *free_slots;  /* to be handed out, last first */
	uint64_t *given_slots; /* given back since the last flush: an upload under way may still write to them */
	size_t chunk_count, chunk_cap, free_count, free_cap, given_count, given_cap;
};

struct device_buffer { /* the same bytes on both sides; host memory is pinned */
	void *host, *device;
	size_t bytes;
};

struct device {
	void *stream; /* cudaStream_t */
	uint32_t multiprocessors, shared_bytes, major; /* major: of the compute capability */
	bool bulk; /* bulk copies: compute capability 9.0 */
	struct device_pool pools[IKV_FMT_COUNT];
	struct device_buffer upload;
	struct move_item *items;
	uint32_t item_count, item_cap;
	size_t upload_used;
	void *flushed;  /* cudaEvent_t: the upload buffer has been read */
	bool in_flight; /* it may be still to come */
};

/* The device that the driver lists first. slot_bytes: of a page of one head, by format. */
int device_open(struct device *d, const uint64_t slot_bytes[IKV_FMT_COUNT], struct ikv_err *err);
void device_close(struct device *d);

/* A cudaError_t as an error that says what was being done; 0 if there is none. */
int device_failed(int status, const char *doing, struct ikv_err *err);

/* A slot's address, 0 on failure. A slot given back is handed out again after the next flush. */
uint64_t device_take(struct device *d, enum ikv_format f, struct ikv_err *err);
/* Cannot fail where room was made beforehand: device_take makes it. */
void device_give(struct device *d, enum ikv_format f, uint64_t slot);

/* Room for `bytes` that the next flush copies to `to`; write them before any other call. NULL on failure. A target
 * may occur once between flushes. */
void *device_put(struct device *d, uint64_t to, size_t bytes, struct ikv_err *err);
/* The copies are on the stream when this returns, not done. */
int device_flush(struct device *d, struct ikv_err *err);
/* Flush where so much waits that the copy should begin now, beside what the host does next. */
int device_ahead(struct device *d, struct ikv_err *err);
/* Copy from the device, after whatever is still to be copied there. */
int device_get(struct device *d, void *to, uint64_t from, size_t bytes, struct ikv_err *err);

/* At least `bytes`; old content is lost. */
int device_reserve(struct device_buffer *b, size_t bytes, bool on_host, struct ikv_err *err);
void device_release(struct device_buffer *b);

#endif
