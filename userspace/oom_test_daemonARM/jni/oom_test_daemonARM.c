// SPDX-License-Identifier: GPL-2.0-only
/* A user goes over its limit while oom_daemonARM runs: see oom_test.h. */
#include "oom_test.h"

int main(int argc, char **argv)
{
	return oom_test_main(argc, argv);
}
