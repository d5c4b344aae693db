/* Where the program's data files are: plots, machines, profiles. */
#ifndef SIM_DATADIR_H
#define SIM_DATADIR_H

#include <stddef.h>

/* Path of `relative` ("plots/style.gp") in the first of $INTENTKV_DATADIR, the source tree and the installed
 * data folder that has it; written to buf. NULL where none has it or buf is too small. */
const char *datadir_find(const char *relative, char *buf, size_t size);

#endif
