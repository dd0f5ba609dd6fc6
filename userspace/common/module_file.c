// SPDX-License-Identifier: GPL-2.0-only
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "mm_user.h"
#include "module_file.h"

#define PATIENCE_MS	10000

bool read_module(const char *path, struct module_file *module)
{
	const char *base = strrchr(path, '/');
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;

	if (fd < 0 || fstat(fd, &status)) {
		complain("%s: %s", path, strerror(errno));
		return false;
	}
	base = base ? base + 1 : path;
	snprintf(module->name, sizeof(module->name), "%.*s",
		 (int)strcspn(base, "."), base);
	module->path = path;
	module->size = status.st_size;
	module->image = mmap(NULL, module->size, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	return module->image != MAP_FAILED;
}

bool load_module(const struct module_file *module)
{
	if (!syscall(__NR_init_module, module->image, module->size, ""))
		return true;
	complain("cannot load %s: %s", module->path, strerror(errno));
	return false;
}

bool unload_module(const struct module_file *module)
{
	int tries;

	for (tries = 0; tries < PATIENCE_MS; tries++) {
		if (!syscall(__NR_delete_module, module->name, O_NONBLOCK))
			return true;
		if (errno != EAGAIN && errno != EBUSY)
			break;
		poll(NULL, 0, 1);
	}
	complain("cannot unload %s: %s", module->name, strerror(errno));
	return false;
}
