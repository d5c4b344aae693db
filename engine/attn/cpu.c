/* CPU backend: the store, the attention loop, and the micro-kernels of one ISA. */
#include "attn/flash.h"
#include "attn/isa.h"
#include "attn/store.h"
#include "intentkv/alloc.h"

/* Slots of so many pages on are fetched when one is looked up: of pages chosen at random they are in no cache. */
#define SLOTS_AHEAD 8

struct cpu {
	struct ikv_backend base;
	struct store store;
	struct flash *flash;
	const struct micro_kernels *micro;
};

static bool cpu_usable(char *why, size_t size)
{
	(void)why;
	(void)size;
	return true;
}

static void cpu_close(struct ikv_backend *b)
{
	struct cpu *c = (struct cpu *)b;
	if (!c)
		return;
	flash_destroy(c->flash);
	store_free(&c->store);
	ikv_free(c);
}

static int cpu_open(struct ikv_backend **out, const struct ikv_geometry *g, const struct ikv_backend_config *config,
		    struct ikv_err *err)
{
	const struct micro_kernels *micro = isa_micro(config->isa, err);
	struct cpu *c = micro ? ikv_alloc(1, sizeof *c, err) : NULL;
	if (!c)
		return -1;
	c->base.ops = &ikv_backend_cpu;
	c->micro = micro;
	if (store_init(&c->store, g, config->sequences, err)) {
		ikv_free(c);
		return -1;
	}
	if (flash_create(&c->flash, g, micro, config->threads, err)) {
		cpu_close(&c->base);
		return -1;
	}
	*out = &c->base;
	return 0;
}

static int cpu_append(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t tokens, const uint16_t *k,
		      const uint16_t *v, struct ikv_err *err)
{
	return store_append(&((struct cpu *)b)->store, seq, layer, tokens, k, v, err);
}

static int cpu_truncate(struct ikv_backend *b, uint32_t seq, uint32_t tokens, struct ikv_err *err)
{
	return store_truncate(&((struct cpu *)b)->store, seq, tokens, err);
}

static void cpu_release(struct ikv_backend *b, uint32_t seq)
{
	store_release(&((struct cpu *)b)->store, seq);
}

static int cpu_recode(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		      uint32_t page, enum ikv_format to, struct ikv_err *err)
{
	return store_recode(&((struct cpu *)b)->store, seq, layer, kv_first, kv_count, page, to, err);
}

static int cpu_restore(struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_first, uint32_t kv_count,
		       uint32_t page, enum ikv_format to, const uint16_t *k, const uint16_t *v, struct ikv_err *err)
{
	return store_restore(&((struct cpu *)b)->store, seq, layer, kv_first, kv_count, page, to, k, v, err);
}

static enum ikv_format cpu_format(const struct ikv_backend *b, uint32_t seq, uint32_t layer, uint32_t kv_head,
				  uint32_t page)
{
	return store_format(&((const struct cpu *)b)->store, seq, layer, kv_head, page);
}

static void locate(const void *source, const struct ikv_attn_unit *u, uint32_t kv_head, uint32_t index, uint32_t i,
		   struct tile *tile, struct flash_heads *heads)
{
	const struct store *s = source;
	const struct store_slot *slot = store_slot(s, u->seq, u->layer, kv_head, u->plan->pages[index].page);
	if (index + SLOTS_AHEAD < u->plan->count)
		__builtin_prefetch(
		    store_slot(s, u->seq, u->layer, kv_head, u->plan->pages[index + SLOTS_AHEAD].page));
	heads->shape = &s->shape[slot->format];
	heads->heads = slot->run;
	heads->k_step = heads->v_step = (ptrdiff_t)s->head[slot->format];
	tile_at(heads->shape, slot->data, i, tile);
}

/* Formats of pages whose kernels read other forms of the query. */
static uint32_t rounded_formats(const struct cpu *c)
{
	uint32_t formats = 0;
	for (unsigned f = 0; f < IKV_FMT_COUNT; f++)
		if (c->store.held[f] && c->micro->format[f].rounds)
			formats |= FORMAT_BIT(f);
	return formats;
}

static int cpu_decode(struct ikv_backend *b, const struct ikv_attn_unit *units, uint32_t count, struct ikv_err *err)
{
	struct cpu *c = (struct cpu *)b;
	if (store_check_units(&c->store, units, count, err) ||
	    flash_attend(c->flash, units, count, locate, &c->store, rounded_formats(c), err))
		return -1;
	c->store.stats.kv_bytes_read += store_read_bytes(&c->store, units, count);
	return 0;
}

static void cpu_stats(const struct ikv_backend *b, struct ikv_backend_stats *stats)
{
	const struct cpu *c = (const struct cpu *)b;
	*stats = c->store.stats;
	stats->isa = c->micro->isa;
}

const struct ikv_backend_ops ikv_backend_cpu = {
    .name = "cpu",
    .summary = "threads and vector micro-kernels that read every stored format directly",
    .usable = cpu_usable,
    .open = cpu_open,
    .close = cpu_close,
    .append = cpu_append,
    .truncate = cpu_truncate,
    .release = cpu_release,
    .recode = cpu_recode,
    .restore = cpu_restore,
    .format = cpu_format,
    .decode = cpu_decode,
    .stats = cpu_stats,
};
