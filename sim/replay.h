/* A recorded run again: its scenario and settings from the database, for another look at what it decided. */
#ifndef SIM_REPLAY_H
#define SIM_REPLAY_H

#include "sim/run.h"

struct replay {
	int64_t run_id;
	struct scenario_doc doc;
	struct scenario sc;
	struct session_list sessions;
	char differs[400]; /* a setting that is not what it was, empty if none */
};

/* `run`: a number, a label or a name, NULL: the newest that is done. `overrides`: KEY=VALUE for what was recorded in
 * no form that can be given again, such as a list of rules. Files are looked for as the run did, from the current
 * folder. */
int replay_open(struct replay *r, const char *db, const char *run, const char *const *overrides, uint32_t count,
		bool allow_path, struct ikv_err *err);
void replay_close(struct replay *r);

#endif
