#include <cuda_runtime_api.h>
#include "gpu/pages.h"
#include "gpu/tier.h"
#include "intentkv/alloc.h"

static int make_event(void **event, struct ikv_err *err)
{
	cudaEvent_t e;
	if (device_failed(cudaEventCreate(&e), "create an event", err))
		return -1;
	*event = e;
	return 0;
}

static int make_stream(void **stream, struct ikv_err *err)
{
	int least = 0, greatest = 0;
	cudaStream_t s;
	/* Its few blocks are to find room before those of attention. */
	if (device_failed(cudaDeviceGetStreamPriorityRange(&least, &greatest), "ask the device", err) ||
	    device_failed(cudaStreamCreateWithPriority(&s, cudaStreamNonBlocking, greatest), "create a stream", err))
		return -1;
	*stream = s;
	return 0;
}

int tier_open(struct pages *p, struct ikv_err *err)
{
	struct tier *t = &p->tier;
	if (t->stream)
		return 0;
	for (uint32_t i = 0; i < TIER_EVENTS; i++)
		if (make_event(&t->events[i], err))
			return -1;
	for (uint32_t i = 0; i < 2 * TIER_WAITS; i++)
		if (make_event(&t->waits[i], err))
			return -1;
	return make_stream(&t->back, err) || make_stream(&t->stream, err) ? -1 : 0;
}

void tier_close(struct pages *p)
{
	struct tier *t = &p->tier;
	void *streams[] = {t->stream, t->back};
	for (int i = 0; i < 2; i++) {
		if (streams[i]) {
			cudaStreamSynchronize(streams[i]);
			cudaStreamDestroy(streams[i]);
		}
	}
	for (uint32_t i = 0; i < TIER_EVENTS; i++)
		if (t->events[i])
			cudaEventDestroy(t->events[i]);
	for (uint32_t i = 0; i < 2 * TIER_WAITS; i++)
		if (t->waits[i])
			cudaEventDestroy(t->waits[i]);
	moves_free(&t->now);
	moves_free(&t->beside);
	moves_free(&t->due);
	moves_free(&t->running);
	moves_free(&t->through);
	cudaFreeHost(t->items);
}

static struct pages_list *list_of(struct pages *p, const struct moves_item *x)
{
	return &p->lists[x->list];
}

/* The slot that a move was to fill is free again. */
static void give_target(struct pages *p, const struct moves_item *x)
{
	device_give(&p->device, x->out, pages_entry_format(x->to), pages_entry_slot(x->to));
}

void tier_forget(struct pages *p, uint32_t list, uint32_t page, uint32_t head)
{
	struct tier *t = &p->tier;
	struct moves_item x;
	if (moves_take(&t->now, list, page, head, &x) || moves_take(&t->beside, list, page, head, &x))
		give_target(p, &x);
}

static int place_head(struct pages *p, uint32_t list, uint32_t page, uint32_t head, enum ikv_place place,
		      struct ikv_err *err)
{
	struct tier *t = &p->tier;
	struct pages_list *l = &p->lists[list];
	uint8_t *where = &l->where[pages_at(p, page, head)];
	attend_entry e = l->table[pages_at(p, page, head)];
	struct moves_item x = {list, page, head, e, 0, place == IKV_PLACE_SLOW};
	enum moves_what what = moves_decide(*where, place);
	if (what == MOVES_STAY) {
		tier_forget(p, list, page, head);
		*where &= (uint8_t)~MOVES_QUEUED;
	} else if (what == MOVES_HURRY) {
		return moves_take(&t->beside, list, page, head, &x) ? moves_add(&t->now, &x, err) : 0;
	} else if (what == MOVES_NOW || what == MOVES_BESIDE) {
		uint64_t slot = device_take(&p->device, x.out, pages_entry_format(e), err);
		if (!slot)
			return -1;
		x.to = slot | (e & 15);
		if (moves_add(what == MOVES_NOW ? &t->now : &t->beside, &x, err))
			return -1;
		*where |= MOVES_QUEUED;
	}
	return 0;
}

int pages_place(struct pages *p, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count, uint32_t page,
		enum ikv_place place, struct ikv_err *err)
{
	if (pages_check_heads(p, seq, layer, kv_first, kv_count, page, err) || tier_open(p, err))
		return -1;
	uint32_t list = (uint32_t)(pages_list(p, seq, layer) - p->lists);
	for (uint32_t h = kv_first; h < kv_first + kv_count; h++)
		if (place_head(p, list, page, h, place, err))
			return -1;
	return 0;
}

static int wait_for_all(struct pages *p, struct ikv_err *err)
{
	void *streams[] = {p->device.stream, p->tier.stream, p->tier.back};
	for (int i = 0; i < 3; i++)
		if (device_failed(cudaStreamSynchronize(streams[i]), "copy pages between tiers", err))
			return -1;
	return 0;
}

/* Room for so many more items of kernels under way. */
static int items_room(struct pages *p, uint32_t more, struct ikv_err *err)
{
	struct tier *t = &p->tier;
	void *items;
	if (more <= t->item_cap - t->item_count)
		return 0;
	if (wait_for_all(p, err)) /* what they read is not needed then */
		return -1;
	t->item_count = 0;
	if (more <= t->item_cap)
		return 0;
	if (device_failed(cudaMallocHost(&items, 2 * (size_t)more * sizeof *t->items), "allocate pinned memory", err))
		return -1;
	cudaFreeHost(t->items);
	t->items = items;
	t->item_cap = 2 * more;
	return 0;
}

/* Those of a direction, as the copy kernel reads them; room is there. */
static struct gather_list list_items(struct pages *p, const struct moves *m, bool out, uint32_t blocks)
{
	struct tier *t = &p->tier;
	struct gather_list list = {t->items + t->item_count, 0, blocks};
	for (uint32_t i = 0; i < m->count; i++) {
		const struct moves_item *x = &m->items[i];
		if (x->out != out)
			continue;
		t->items[t->item_count++] = (struct gather_item){pages_entry_slot(x->from), pages_entry_slot(x->to),
								 pages_slot_bytes(p, pages_entry_format(x->from))};
		list.count++;
	}
	return list;
}

/* The pages lie elsewhere now. Bytes are counted here, not where copies are listed: those of a call that fails are listed again. */
static void arrive(struct pages *p, const struct moves *m)
{
	for (uint32_t i = 0; i < m->count; i++) {
		const struct moves_item *x = &m->items[i];
		p->stats.placed_bytes += pages_slot_bytes(p, pages_entry_format(x->from));
		pages_set(p, list_of(p, x), x->page, x->head, x->to, x->out);
		device_give(&p->device, !x->out, pages_entry_format(x->from), pages_entry_slot(x->from));
	}
}

static float elapsed(void *from, void *to)
{
	float ms = 0;
	return cudaEventElapsedTime(&ms, from, to) == cudaSuccess ? ms : 0;
}

/* Times of copies that attention waited for; the stream has been waited for. */
static void take_waits(struct pages *p)
{
	struct tier *t = &p->tier;
	struct moves_times times = {0};
	double transfer, exposed;
	for (uint32_t i = 0; i < t->wait_count; i++)
		times.before += elapsed(t->waits[2 * i], t->waits[2 * i + 1]);
	t->wait_count = 0;
	moves_account(&times, &transfer, &exposed);
	p->stats.transfer_ns += transfer * 1e6;
	p->stats.exposed_ns += exposed * 1e6;
}

/* Copies on the stream of attention itself. */
static int copy_before(struct pages *p, const struct moves *m, struct ikv_err *err)
{
	struct tier *t = &p->tier;
	cudaStream_t stream = p->device.stream;
	if (!m->count)
		return 0;
	if (t->wait_count == TIER_WAITS) {
		if (wait_for_all(p, err))
			return -1;
		take_waits(p);
	}
	if (items_room(p, m->count, err))
		return -1;
	struct gather_list in = list_items(p, m, false, 0), out = list_items(p, m, true, 0);
	void **waits = &t->waits[2 * t->wait_count++];
	const char *doing = "copy pages between tiers";
	if (device_failed(cudaEventRecord(waits[0], stream), doing, err) ||
	    device_failed(move_gather(&in, &out, stream), doing, err))
		return -1;
	return device_failed(cudaEventRecord(waits[1], stream), doing, err);
}

int tier_force(struct pages *p, struct ikv_err *err)
{
	struct moves *queues[] = {&p->tier.now, &p->tier.beside};
	/* A page in a queue may be what an unfinished upload or re-encoding writes. */
	if ((queues[0]->count || queues[1]->count) && device_flush(&p->device, err))
		return -1;
	for (int i = 0; i < 2; i++) {
		if (copy_before(p, queues[i], err))
			return -1;
		arrive(p, queues[i]);
		queues[i]->count = 0;
	}
	return 0;
}

/* Pages of the host tier that a unit reads: they get a place for this call. */
static int read_through(struct pages *p, const struct ikv_attn_unit *u, struct ikv_err *err)
{
	struct pages_list *l = pages_list(p, u->seq, u->layer);
	uint32_t group = p->g.q_heads / p->g.kv_heads, first = u->q_first / group,
		 last = u->q_count ? (u->q_first + u->q_count - 1) / group : 0;
	for (uint32_t i = 0; u->q_count && i < u->plan->count; i++) {
		for (uint32_t h = first; h <= last; h++) {
			uint32_t page = u->plan->pages[i].page;
			attend_entry e = l->table[pages_at(p, page, h)];
			if (!(l->where[pages_at(p, page, h)] & MOVES_HOST))
				continue;
			bool known = false; /* units may share plans: the entry is that of the copy already */
			for (uint32_t k = p->tier.through.count; k-- > 0 && !known;)
				known = p->tier.through.items[k].to == e;
			if (known)
				continue;
			uint64_t slot = device_take(&p->device, false, pages_entry_format(e), err);
			struct moves_item x = {(uint32_t)(l - p->lists), page, h, e, slot | (e & 15), false};
			if (!slot || moves_add(&p->tier.through, &x, err))
				return -1;
			l->table[pages_at(p, page, h)] = x.to;
		}
	}
	return 0;
}

static void mark_dirty(struct pages *p, const struct moves *m, bool back)
{
	for (uint32_t i = 0; i < m->count; i++) {
		const struct moves_item *x = &m->items[i];
		struct pages_list *l = list_of(p, x);
		uint8_t where = l->where[pages_at(p, x->page, x->head)];
		pages_set(p, l, x->page, x->head, back ? x->from : x->to, true);
		l->where[pages_at(p, x->page, x->head)] = where; /* it stays in the host tier, and in its queue */
	}
}

/* Which copies go with this call: of its layer, or all of them where units are of several or there are none. */
static int choose(struct pages *p, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	struct tier *t = &p->tier;
	uint32_t layers = p->g.layers, layer = count ? units[0].layer : layers;
	for (uint32_t i = 1; i < count; i++)
		if (units[i].layer != layer)
			layer = layers;
	if (moves_split(&t->now, layer, layers, &t->due, err) ||
	    moves_split(&t->beside, layer, layers, &t->running, err))
		return -1;
	return layer + 1 < layers ? moves_split(&t->now, layer + 1, layers, &t->running, err) : 0;
}

int tier_prepare(struct pages *p, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	struct tier *t = &p->tier;
	if (!t->stream)
		return 0;
	/* Pages of the host tier may be what an unfinished upload or re-encoding writes. */
	if (((t->now.count || p->host_pages) && device_flush(&p->device, err)) || choose(p, units, count, err) ||
	    copy_before(p, &t->due, err))
		return -1;
	arrive(p, &t->due);
	t->due.count = 0;
	for (uint32_t i = 0; p->host_pages && i < count; i++)
		if (read_through(p, &units[i], err))
			return -1;
	if (copy_before(p, &t->through, err) || items_room(p, t->running.count, err))
		return -1;
	mark_dirty(p, &t->through, false);
	t->in = list_items(p, &t->running, false, TIER_BLOCKS);
	t->out = list_items(p, &t->running, true, TIER_BLOCKS);
	return 0;
}

uint32_t tier_blocks(const struct pages *p)
{
	return p->tier.running.count && TIER_BLOCKS < p->device.multiprocessors ? TIER_BLOCKS : 0;
}

/* One direction on its stream, after an event. */
static int start(struct pages *p, const struct gather_list *list, void *stream, uint32_t after, uint32_t begin,
		 struct ikv_err *err)
{
	void **events = p->tier.events;
	const char *doing = "copy pages beside attention";
	if (!list->count)
		return 0;
	if (device_failed(cudaStreamWaitEvent(stream, events[after], 0), doing, err) ||
	    device_failed(cudaEventRecord(events[begin], stream), doing, err) ||
	    device_failed(move_gather(list, NULL, stream), doing, err))
		return -1;
	return device_failed(cudaEventRecord(events[begin + 1], stream), doing, err);
}

int tier_begin(struct pages *p, struct ikv_err *err)
{
	struct tier *t = &p->tier;
	if (!t->stream)
		return 0;
	if (device_failed(cudaEventRecord(t->events[TIER_BEGIN], p->device.stream), "time attention", err))
		return -1;
	t->timed = t->launched = true;
	if (start(p, &t->in, t->stream, TIER_BEGIN, TIER_IN_BEGIN, err))
		return -1;
	/* Writes to the host would delay the requests for what attention is going to wait for. */
	return start(p, &t->out, t->back, t->in.count ? TIER_IN_END : TIER_BEGIN, TIER_OUT_BEGIN, err);
}

int tier_end(struct pages *p, struct ikv_err *err)
{
	struct tier *t = &p->tier;
	cudaStream_t stream = p->device.stream;
	const char *doing = "wait for pages";
	if (!t->stream)
		return 0;
	if (device_failed(cudaEventRecord(t->events[TIER_ATTENDED], stream), doing, err))
		return -1;
	if (!t->in.count)
		return 0;
	/* The next attention may follow at once: this one is over when the pages are there that it may read. */
	return device_failed(cudaStreamWaitEvent(stream, t->events[TIER_IN_END], 0), doing, err);
}

static void take_times(struct pages *p)
{
	struct tier *t = &p->tier;
	void **e = t->events;
	struct moves_times times = {.attention = elapsed(e[TIER_BEGIN], e[TIER_ATTENDED])};
	double transfer, exposed;
	if (t->in.count) {
		times.beside = elapsed(e[TIER_IN_BEGIN], e[TIER_IN_END]);
		times.end = elapsed(e[TIER_BEGIN], e[TIER_IN_END]);
	}
	moves_account(&times, &transfer, &exposed);
	p->stats.device_ns += times.attention * 1e6;
	p->stats.transfer_ns += transfer * 1e6;
	p->stats.exposed_ns += exposed * 1e6;
	if (t->out.count)
		p->stats.evict_ns += elapsed(e[TIER_OUT_BEGIN], e[TIER_OUT_END]) * 1e6;
}

int tier_settle(struct pages *p, struct ikv_err *err)
{
	struct tier *t = &p->tier;
	if (!t->stream)
		return 0;
	mark_dirty(p, &t->through, true);
	for (uint32_t i = 0; i < t->through.count; i++) {
		p->stats.placed_bytes += pages_slot_bytes(p, pages_entry_format(t->through.items[i].from));
		give_target(p, &t->through.items[i]);
	}
	t->through.count = 0;
	if (!t->launched && copy_before(p, &t->running, err)) /* no attention came of it */
		return -1;
	if (wait_for_all(p, err))
		return -1;
	arrive(p, &t->running);
	t->running.count = 0;
	if (t->timed)
		take_times(p);
	take_waits(p);
	t->item_count = 0;
	t->in = t->out = (struct gather_list){0};
	t->launched = t->timed = false;
	return 0;
}
