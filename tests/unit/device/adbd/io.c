// SPDX-License-Identifier: GPL-2.0-only
#include <errno.h>
#include <unistd.h>

#include "adbd.h"

bool read_all(int fd, void *data, size_t length)
{
	char *at = data;
	ssize_t n;

	while (length) {
		n = read(fd, at, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		at += n;
		length -= n;
	}
	return true;
}

bool write_all(int fd, const void *data, size_t length)
{
	const char *at = data;
	ssize_t n;

	while (length) {
		n = write(fd, at, length);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		at += n;
		length -= n;
	}
	return true;
}

uint32_t get_le32(const void *data)
{
	const unsigned char *at = data;

	return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

void put_le32(void *data, uint32_t value)
{
	unsigned char *at = data;

	at[0] = value;
	at[1] = value >> 8;
	at[2] = value >> 16;
	at[3] = value >> 24;
}
