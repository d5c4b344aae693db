/* Device memory of the backend: slots for pages, one pool a format, and uploads gathered into few copies. */
#ifndef GPU_DEVICE_H
#define GPU_DEVICE_H

#include <stdbool.h>
#include <stddef.h>
#include "gpu/encode.h"
#include "gpu/gpu_tile.h"
#include "gpu/move.h"
#include "intentkv/error.h"

struct device_pool {                      /* slots of one size */
	uint64_t slot_bytes, chunk_slots; /* chunk_slots: of the newest chunk */
	void **chunks;
	uint64_t *free_slots;  /* to be handed out, last first */
	uint64_t *given_slots; /* given back since the last flush: an upload under way may still write to them */
	size_t chunk_count, chunk_cap, free_count, free_cap, given_count, given_cap;
	bool on_host; /* pinned memory */
};

struct device_buffer { /* the same bytes on both sides; host memory is pinned */
	void *host, *device;
	size_t bytes;
};

struct device {
	void *stream;                                  /* cudaStream_t */
	uint32_t multiprocessors, shared_bytes, major; /* major: of the compute capability */
	bool bulk;                                     /* the code that runs has bulk copies: compiled for 9.0 */
	struct device_pool pools[2][IKV_FMT_COUNT];    /* on the device, in pinned host memory */
	struct encode_shape shape;                     /* of pages; for device_append */
	struct device_buffer upload;
	struct move_item *items;
	struct append_item *appends;
	struct encode_pair *recodes;
	uint32_t item_count, item_cap, append_count, append_cap, recode_count, recode_cap;
	size_t upload_used;
	uint64_t flushes;
	void *flushed;  /* cudaEvent_t: the upload buffer has been read */
	void *clock[2]; /* cudaEvent_t: before and after the kernels of a call whose work is a graph */
	bool in_flight; /* it may be still to come */
};

/* The device that the driver lists first. slot_bytes: of a page of one head, by format. */
int device_open(struct device *d, const uint64_t slot_bytes[IKV_FMT_COUNT], struct ikv_err *err);
void device_close(struct device *d);

/* A cudaError_t as an error that says what was being done; 0 if there is none. */
int device_failed(int status, const char *doing, struct ikv_err *err);

/* A slot's address, which is good on the device, also for host memory; 0 on failure. A slot given back is handed out
 * again after the next flush. */
uint64_t device_take(struct device *d, bool on_host, enum ikv_format f, struct ikv_err *err);
/* Cannot fail where room was made beforehand: device_take makes it. */
void device_give(struct device *d, bool on_host, enum ikv_format f, uint64_t slot);

/* Room for `bytes` that the next flush copies to `to`; write them before any other call. NULL on failure. A target
 * may occur once between flushes. */
void *device_put(struct device *d, uint64_t to, size_t bytes, struct ikv_err *err);
/* Room for `bytes` of rows that the next flush brings to the device, and for `items` device_append that refer to
 * them. Appends happen after what was put. */
uint8_t *device_stage(struct device *d, size_t bytes, uint32_t items, struct ikv_err *err);
uint64_t device_staged(const struct device *d, const void *staged); /* its address on the device */
void device_append(struct device *d, const struct append_item *item);
/* With the next flush, after its appends. No two of a flush may write what the other one reads. Room first: it may
 * flush, and then `from` must not have been given back. */
int device_recode_room(struct device *d, struct ikv_err *err);
void device_recode(struct device *d, attend_entry from, attend_entry to);
/* The copies are on the stream when this returns; done where pages lie in host memory, which other streams copy. */
int device_flush(struct device *d, struct ikv_err *err);
/* Flush where so much waits that the copy should begin now, beside what the host does next. */
int device_ahead(struct device *d, struct ikv_err *err);
/* Copy from the device, after whatever is still to be copied there. */
int device_get(struct device *d, void *to, uint64_t from, size_t bytes, struct ikv_err *err);

/* At least `bytes`; old content is lost. */
int device_reserve(struct device_buffer *b, size_t bytes, bool on_host, struct ikv_err *err);
void device_release(struct device_buffer *b);

#endif
