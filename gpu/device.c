#include <cuda_runtime_api.h>
#include <string.h>
#include "gpu/device.h"
#include "gpu/probe.h"
#include "intentkv/alloc.h"

#define UPLOAD_BYTES    ((size_t)8 << 20)
#define AHEAD_BYTES     ((size_t)256 << 10)
#define CHUNK_BYTES_MIN ((uint64_t)2 << 20)
#define CHUNK_BYTES_MAX ((uint64_t)256 << 20)

int device_failed(int status, const char *doing, struct ikv_err *err)
{
	if (status == cudaSuccess)
		return 0;
	(void)cudaGetLastError(); /* an error that does not stick is not to be seen by the next call */
	return ikv_err_set(err, IKV_FAILED, "CUDA: cannot %s: %s", doing, cudaGetErrorString((cudaError_t)status));
}

int device_reserve(struct device_buffer *b, size_t bytes, bool on_host, struct ikv_err *err)
{
	if (bytes <= b->bytes)
		return 0;
	size_t want = bytes < 2 * b->bytes ? 2 * b->bytes : bytes;
	want = (want + 255) & ~(size_t)255;
	device_release(b);
	if (device_failed(cudaMalloc(&b->device, want), "allocate device memory", err) ||
	    (on_host && device_failed(cudaMallocHost(&b->host, want), "allocate pinned memory", err))) {
		device_release(b);
		return -1;
	}
	b->bytes = want;
	return 0;
}

void device_release(struct device_buffer *b)
{
	cudaFree(b->device);
	cudaFreeHost(b->host);
	*b = (struct device_buffer){0};
}

int device_open(struct device *d, const uint64_t slot_bytes[IKV_FMT_COUNT], struct ikv_err *err)
{
	int processors = 0, shared = 0, major = 0, arch = 0;
	cudaStream_t stream;
	*d = (struct device){0};
	for (int f = 0; f < IKV_FMT_COUNT; f++) {
		d->pools[0][f].slot_bytes = d->pools[1][f].slot_bytes = slot_bytes[f];
		d->pools[1][f].on_host = true;
	}
	if (device_failed(cudaSetDevice(0), "select device 0", err) ||
	    device_failed(cudaDeviceGetAttribute(&processors, cudaDevAttrMultiProcessorCount, 0), "ask the device",
			  err) ||
	    device_failed(cudaDeviceGetAttribute(&shared, cudaDevAttrMaxSharedMemoryPerBlockOptin, 0),
			  "ask the device", err) ||
	    device_failed(cudaDeviceGetAttribute(&major, cudaDevAttrComputeCapabilityMajor, 0), "ask the device",
			  err) ||
	    device_failed(probe_device_code(0, &arch), "run this build's code", err) ||
	    device_failed(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "create a stream", err))
		return -1;
	d->stream = stream;
	cudaEvent_t flushed;
	if (device_failed(cudaEventCreateWithFlags(&flushed, cudaEventDisableTiming), "create an event", err)) {
		device_close(d);
		return -1;
	}
	d->flushed = flushed;
	for (int i = 0; i < 2; i++) {
		cudaEvent_t e;
		if (device_failed(cudaEventCreate(&e), "create an event", err)) {
			device_close(d);
			return -1;
		}
		d->clock[i] = e;
	}
	d->multiprocessors = (uint32_t)processors;
	d->shared_bytes = (uint32_t)shared;
	d->major = (uint32_t)major;
	d->bulk = arch >= 900; /* of the code, which may be that for an older device */
	if (device_reserve(&d->upload, UPLOAD_BYTES, true, err)) {
		device_close(d);
		return -1;
	}
	return 0;
}

void device_close(struct device *d)
{
	if (d->stream)
		cudaStreamSynchronize(d->stream);
	for (int f = 0; f < 2 * IKV_FMT_COUNT; f++) {
		struct device_pool *p = &d->pools[f / IKV_FMT_COUNT][f % IKV_FMT_COUNT];
		for (size_t i = 0; i < p->chunk_count; i++)
			p->on_host ? cudaFreeHost(p->chunks[i]) : cudaFree(p->chunks[i]);
		ikv_free(p->chunks);
		ikv_free(p->free_slots);
		ikv_free(p->given_slots);
	}
	device_release(&d->upload);
	ikv_free(d->items);
	ikv_free(d->appends);
	ikv_free(d->recodes);
	if (d->flushed)
		cudaEventDestroy(d->flushed);
	for (int i = 0; i < 2; i++)
		if (d->clock[i])
			cudaEventDestroy(d->clock[i]);
	if (d->stream)
		cudaStreamDestroy(d->stream);
}

static int room(void *array, size_t *cap, size_t need, size_t size, struct ikv_err *err)
{
	if (need <= *cap)
		return 0;
	size_t want = need < 2 * *cap ? 2 * *cap : need;
	if (ikv_grow(array, *cap, want, size, err))
		return -1;
	*cap = want;
	return 0;
}

/* Chunks double what there is, within bounds; neighbouring slots are handed out one after the other. */
static int add_chunk(struct device *d, struct device_pool *p, struct ikv_err *err)
{
	uint64_t slots = 2 * p->chunk_slots, least = CHUNK_BYTES_MIN / p->slot_bytes,
		 most = CHUNK_BYTES_MAX / p->slot_bytes;
	slots = slots < least ? least : slots > most ? most : slots;
	slots = slots ? slots : 1;
	size_t all = p->free_count + p->given_count + slots + p->chunk_count * (size_t)p->chunk_slots;
	void *chunk = NULL;
	if (room(&p->chunks, &p->chunk_cap, p->chunk_count + 1, sizeof *p->chunks, err) ||
	    room(&p->free_slots, &p->free_cap, all, sizeof *p->free_slots, err) ||
	    room(&p->given_slots, &p->given_cap, all, sizeof *p->given_slots, err) ||
	    device_failed(p->on_host ? cudaMallocHost(&chunk, slots * p->slot_bytes)
				     : cudaMalloc(&chunk, slots * p->slot_bytes),
			  p->on_host ? "allocate pinned memory for pages" : "allocate device memory for pages", err))
		return -1;
	/* Pages are copied whole, rows that have not come yet among them. In the order of the stream that fills them: another's
	 * might clear what is there already. */
	if (!p->on_host && device_failed(cudaMemsetAsync(chunk, 0, slots * p->slot_bytes, d->stream),
					 "clear memory for pages", err)) {
		cudaFree(chunk);
		return -1;
	}
	p->chunks[p->chunk_count++] = chunk;
	p->chunk_slots = slots;
	for (uint64_t i = slots; i-- > 0;)
		p->free_slots[p->free_count++] = (uint64_t)(uintptr_t)chunk + i * p->slot_bytes;
	return 0;
}

uint64_t device_take(struct device *d, bool on_host, enum ikv_format f, struct ikv_err *err)
{
	struct device_pool *p = &d->pools[on_host][f];
	if (!p->free_count && add_chunk(d, p, err))
		return 0;
	return p->free_slots[--p->free_count];
}

void device_give(struct device *d, bool on_host, enum ikv_format f, uint64_t slot)
{
	struct device_pool *p = &d->pools[on_host][f];
	p->given_slots[p->given_count++] = slot;
}

/* The upload buffer may be written again. */
static int settle(struct device *d, struct ikv_err *err)
{
	if (d->in_flight && device_failed(cudaEventSynchronize(d->flushed), "place pages on the device", err))
		return -1;
	d->in_flight = false;
	return 0;
}

/* Room in the upload buffer for `bytes` and behind them the items there are and so many more. */
static uint8_t *reserve(struct device *d, size_t bytes, uint32_t items, uint32_t appends, uint32_t recodes,
			struct ikv_err *err)
{
	size_t at = (d->upload_used + 15) & ~(size_t)15, item_cap = d->item_cap, append_cap = d->append_cap,
	       recode_cap = d->recode_cap;
	size_t own = items * sizeof *d->items + appends * sizeof *d->appends + recodes * sizeof *d->recodes + 64;
	size_t others = d->item_count * sizeof *d->items + d->append_count * sizeof *d->appends +
			d->recode_count * sizeof *d->recodes;
	if (at + others && at + bytes + own + others > d->upload.bytes) {
		if (device_flush(d, err))
			return NULL;
		at = 0;
	}
	if (settle(d, err))
		return NULL;
	if (bytes + own > d->upload.bytes && device_reserve(&d->upload, bytes + own, true, err))
		return NULL;
	if (room(&d->items, &item_cap, (size_t)d->item_count + items, sizeof *d->items, err) ||
	    room(&d->appends, &append_cap, (size_t)d->append_count + appends, sizeof *d->appends, err) ||
	    room(&d->recodes, &recode_cap, (size_t)d->recode_count + recodes, sizeof *d->recodes, err))
		return NULL;
	d->item_cap = (uint32_t)item_cap;
	d->append_cap = (uint32_t)append_cap;
	d->recode_cap = (uint32_t)recode_cap;
	d->upload_used = at + bytes;
	return (uint8_t *)d->upload.host + at;
}

void *device_put(struct device *d, uint64_t to, size_t bytes, struct ikv_err *err)
{
	uint8_t *at = reserve(d, bytes, 1, 0, 0, err);
	if (at)
		d->items[d->item_count++] =
		    (struct move_item){to, (uint32_t)(at - (uint8_t *)d->upload.host), (uint32_t)bytes};
	return at;
}

uint8_t *device_stage(struct device *d, size_t bytes, uint32_t items, struct ikv_err *err)
{
	return reserve(d, bytes, 0, items, 0, err);
}

uint64_t device_staged(const struct device *d, const void *staged)
{
	return (uint64_t)(uintptr_t)d->upload.device +
	       (uint64_t)((const uint8_t *)staged - (uint8_t *)d->upload.host);
}

void device_append(struct device *d, const struct append_item *item)
{
	d->appends[d->append_count++] = *item;
}

int device_recode_room(struct device *d, struct ikv_err *err)
{
	return reserve(d, 0, 0, 0, 1, err) ? 0 : -1;
}

void device_recode(struct device *d, attend_entry from, attend_entry to)
{
	d->recodes[d->recode_count++] = (struct encode_pair){from, to};
}

/* What is in the buffer, then the lists that say where it goes: one copy. */
static int upload(struct device *d, struct ikv_err *err)
{
	size_t at = (d->upload_used + 15) & ~(size_t)15, bytes = d->item_count * sizeof *d->items,
	       rows_at = (at + bytes + 15) & ~(size_t)15, rows = d->append_count * sizeof *d->appends,
	       pairs_at = (rows_at + rows + 15) & ~(size_t)15, pairs = d->recode_count * sizeof *d->recodes;
	uint8_t *device = d->upload.device, *host = d->upload.host;
	const char *doing = "place pages on the device";
	if (bytes)
		memcpy(host + at, d->items, bytes);
	if (rows)
		memcpy(host + rows_at, d->appends, rows);
	if (pairs)
		memcpy(host + pairs_at, d->recodes, pairs);
	if (device_failed(cudaMemcpyAsync(device, host, pairs_at + pairs, cudaMemcpyHostToDevice, d->stream),
			  "copy pages to the device", err) ||
	    (d->item_count &&
	     device_failed(move_scatter(device, (const struct move_item *)(device + at), d->item_count, d->stream),
			   doing, err)) ||
	    (d->append_count && device_failed(append_launch(&d->shape, (const struct append_item *)(device + rows_at),
							    d->append_count, d->stream),
					      "append rows on the device", err)) ||
	    (d->recode_count &&
	     device_failed(encode_launch(&d->shape, (const struct encode_pair *)(device + pairs_at), d->recode_count,
					 d->stream),
			   "re-encode pages", err)))
		return -1;
	bool on_host = false;
	for (int f = 0; f < IKV_FMT_COUNT; f++)
		on_host = on_host || d->pools[1][f].chunk_count;
	if (on_host)
		return device_failed(cudaStreamSynchronize(d->stream), doing, err);
	d->in_flight = true;
	return device_failed(cudaEventRecord(d->flushed, d->stream), doing, err);
}

int device_ahead(struct device *d, struct ikv_err *err)
{
	return d->upload_used >= AHEAD_BYTES ? device_flush(d, err) : 0;
}

int device_flush(struct device *d, struct ikv_err *err)
{
	if ((d->item_count || d->append_count || d->recode_count) && upload(d, err))
		return -1;
	d->item_count = d->append_count = d->recode_count = 0;
	d->upload_used = 0;
	d->flushes++;
	for (int f = 0; f < 2 * IKV_FMT_COUNT; f++) {
		struct device_pool *p = &d->pools[f / IKV_FMT_COUNT][f % IKV_FMT_COUNT];
		while (p->given_count)
			p->free_slots[p->free_count++] = p->given_slots[--p->given_count];
	}
	return 0;
}

static bool pending(const struct device *d, uint64_t from, size_t bytes)
{
	for (uint32_t i = 0; i < d->recode_count; i++)
		if ((d->recodes[i].to & ~(uint64_t)15) == from)
			return true;
	for (uint32_t i = 0; i < d->append_count; i++)
		if (d->appends[i].to >= from && d->appends[i].to < from + bytes)
			return true;
	for (uint32_t i = 0; i < d->item_count; i++)
		if (d->items[i].to < from + bytes && from < d->items[i].to + d->items[i].bytes)
			return true;
	return false;
}

int device_get(struct device *d, void *to, uint64_t from, size_t bytes, struct ikv_err *err)
{
	if (pending(d, from, bytes) && device_flush(d, err))
		return -1;
	if (device_failed(cudaMemcpyAsync(to, (const void *)(uintptr_t)from, bytes, cudaMemcpyDefault, d->stream),
			  "copy a page from the device", err))
		return -1;
	return device_failed(cudaStreamSynchronize(d->stream), "copy a page from the device", err);
}
