/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef MODULE_FILE_H
#define MODULE_FILE_H

#include <stdbool.h>
#include <stddef.h>

/* A module's file, read; its name is the file's. */
struct module_file {
	const char *path;
	char name[64];
	void *image;
	size_t size;
};

/* Each complains and returns false if it cannot. */
bool read_module(const char *path, struct module_file *module);
bool load_module(const struct module_file *module);
/* Tries for a while, as a call in flight holds a reference on the module. */
bool unload_module(const struct module_file *module);

#endif /* MODULE_FILE_H */
