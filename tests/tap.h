/* Run a Check suite and print its results as TAP for the Automake driver. */
#ifndef TESTS_TAP_H
#define TESTS_TAP_H

#include <check.h>
#include <stdio.h>
#include <stdlib.h>

/* For inner loops: one of Check's own assertions writes a mark to a file where it holds, too, millions of times there. */
#define must(condition)          ((condition) ? (void)0 : ck_abort_msg("%s", #condition))
#define must_msg(condition, ...) ((condition) ? (void)0 : ck_abort_msg(__VA_ARGS__))

static inline int tap_run(Suite *suite)
{
	SRunner *runner = srunner_create(suite);
	srunner_set_tap(runner, "-");
	srunner_run_all(runner, CK_SILENT);
	int failed = srunner_ntests_failed(runner);
	srunner_free(runner);
	return failed == 0 ? 0 : 1;
}

#endif
