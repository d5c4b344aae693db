/* What decides the results of a point, as a digest: every setting but its name, description, threads and ISA, the
 * contents of the files it reads, and the program's version. Equal keys: equal results. */
#ifndef SIM_SWEEP_KEY_H
#define SIM_SWEEP_KEY_H

#include "sim/scenario.h"

int sweep_key(const struct scenario *sc, const struct yaml_node *root, char key[33], struct ikv_err *err);

#endif
