/* Scheduling: which sessions decode in the next step, on the simulated clock. */
#include "sim/run.h"

/* Bring a slot to its next token, starting the next session where one ended. */
static int feed(struct run *run, struct slot *s, bool *decode, struct ikv_err *err)
{
	*decode = false;
	for (;;) {
		if (!s->session) {
			if (run->next_session == run->sessions->count)
				return 0;
			if (slot_begin(run, s, run->next_session, err))
				return -1;
			run->next_session++;
		}
		if (s->ready_ns > run->clock_ns)
			return 0;
		s->ready_ns = run->clock_ns;
		if (slot_advance(run, s, decode, err))
			return -1;
		if (*decode || s->ready_ns > run->clock_ns)
			return 0;
		slot_end(run, s); /* all events played */
	}
}

/* Nobody can decode now: go to the moment when the first slot is ready. False when there is none. */
static bool skip_idle_time(struct run *run)
{
	double next = -1;
	for (uint32_t i = 0; i < run->batch; i++) {
		const struct slot *s = &run->slots[i];
		if (s->session && (next < 0 || s->ready_ns < next))
			next = s->ready_ns;
	}
	if (next < 0)
		return false;
	run->clock_ns = next;
	return true;
}

int run_play(struct run *run, struct ikv_err *err)
{
	uint64_t start = wall_now_ns();
	while (!run->stop || !*run->stop) {
		run->active_count = 0;
		for (uint32_t i = 0; i < run->batch; i++) {
			bool decode;
			if (feed(run, &run->slots[i], &decode, err))
				return -1;
			if (decode)
				run->active[run->active_count++] = &run->slots[i];
		}
		if (run->active_count == 0) {
			if (!skip_idle_time(run))
				break;
			continue;
		}
		for (uint32_t i = 0; i < run->active_count; i++)
			if (slot_decode_token(run, run->active[i], err))
				return -1;
		if (run_step(run, err))
			return -1;
		run->wall_ns = wall_now_ns() - start;
		if (run->progress)
			run->progress(run);
	}
	run->wall_ns = wall_now_ns() - start;
	return 0;
}
