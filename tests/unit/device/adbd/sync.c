// SPDX-License-Identifier: GPL-2.0-only
/*
 * The sync service: STAT, LIST, SEND, RECV, QUIT.
 *
 * A file that is sent gets its name when it is complete, so that a transfer
 * that is cut off leaves nothing.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "adbd.h"

#define MAX_PATH	1024
#define MAX_DATA	(64 * 1024)

static char data[MAX_DATA];

/* A request or an answer is four letters and a number. */
static bool answer(int fd, const char *id, uint32_t number)
{
	char message[8];

	memcpy(message, id, 4);
	put_le32(message + 4, number);
	return write_all(fd, message, sizeof(message));
}

static bool fail(int fd, const char *path, const char *why)
{
	char text[MAX_PATH + 128];
	int length = snprintf(text, sizeof(text), "%s: %s", path, why);

	return answer(fd, "FAIL", length) && write_all(fd, text, length);
}

static bool put_attributes(char *at, const char *path)
{
	struct stat status;

	if (lstat(path, &status)) {
		memset(at, 0, 12);
		return false;
	}
	put_le32(at, status.st_mode);
	put_le32(at + 4, status.st_size);
	put_le32(at + 8, status.st_mtime);
	return true;
}

static bool do_stat(int fd, const char *path)
{
	char message[16] = "STAT";

	put_attributes(message + 4, path);
	return write_all(fd, message, sizeof(message));
}

static bool send_entry(int fd, const char *path, const char *name)
{
	char message[20] = "DENT", full[MAX_PATH + NAME_MAX + 2];
	size_t length = strlen(name);

	snprintf(full, sizeof(full), "%s/%s", path, name);
	if (!put_attributes(message + 4, full))
		return true;	/* gone meanwhile */
	put_le32(message + 16, length);
	return write_all(fd, message, sizeof(message)) &&
	       write_all(fd, name, length);
}

static bool do_list(int fd, const char *path)
{
	static const char done[20] = "DONE";
	DIR *folder = opendir(path);
	struct dirent *entry;
	bool good = true;

	while (folder && good && (entry = readdir(folder)))
		good = send_entry(fd, path, entry->d_name);
	if (folder)
		closedir(folder);
	return good && write_all(fd, done, sizeof(done));
}

static bool do_receive(int fd, const char *path)
{
	/* A FIFO that nobody writes must not hold the service. */
	int file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	ssize_t n = -1;
	bool good = true;

	if (file >= 0) {
		while (good && (n = read(file, data, sizeof(data))) > 0)
			good = answer(fd, "DATA", n) && write_all(fd, data, n);
	}
	if (good && n < 0)
		good = fail(fd, path, strerror(errno));
	else if (good)
		good = answer(fd, "DONE", 0);
	if (file >= 0)
		close(file);
	return good;
}

static void make_parents(const char *path)
{
	char parent[MAX_PATH + 1];
	char *slash;

	snprintf(parent, sizeof(parent), "%s", path);
	for (slash = strchr(parent + 1, '/'); slash;
	     slash = strchr(slash + 1, '/')) {
		*slash = '\0';
		mkdir(parent, 0777);
		*slash = '/';
	}
}

/* What is being sent: a file under a name of its own until it is complete. */
struct incoming {
	const char *path;
	char partial[MAX_PATH + 16];
	mode_t mode;
	int file;
	int error;		/* errno of the first thing that went wrong */
};

static void start_incoming(struct incoming *incoming, const char *path,
			   mode_t mode)
{
	const char *slash = strrchr(path, '/');
	int folder = slash ? slash + 1 - path : 0;

	incoming->path = path;
	incoming->mode = mode;
	incoming->error = 0;
	/* Not made from the file's name, which may be as long as one can be. */
	snprintf(incoming->partial, sizeof(incoming->partial),
		 "%.*s.adbd-XXXXXX", folder, path);
	make_parents(path);
	incoming->file = mkostemp(incoming->partial, O_CLOEXEC);
	if (incoming->file < 0)
		incoming->error = errno;
}

static void take_piece(struct incoming *incoming, size_t length)
{
	if (!incoming->error && !write_all(incoming->file, data, length))
		incoming->error = errno;
}

static bool make_link(struct incoming *incoming)
{
	ssize_t n = pread(incoming->file, data, MAX_PATH, 0);

	if (n < 0)
		return false;
	data[n] = '\0';
	unlink(incoming->partial);
	unlink(incoming->path);
	return !symlink(data, incoming->path);
}

/* The protocol's seconds are unsigned; where ours are not, 2038 is the end. */
static time_t to_time(uint32_t seconds)
{
	return sizeof(time_t) == 4 && seconds > INT32_MAX ? INT32_MAX : seconds;
}

static bool give_name(struct incoming *incoming, uint32_t mtime)
{
	time_t seconds = to_time(mtime);
	struct timespec times[2] = {
		{ .tv_sec = seconds }, { .tv_sec = seconds },
	};
	struct stat status;

	if (S_ISLNK(incoming->mode))
		return make_link(incoming);
	/* rename() would say nothing clear about a folder. */
	if (!stat(incoming->path, &status) && S_ISDIR(status.st_mode)) {
		errno = EISDIR;
		return false;
	}
	return !fchmod(incoming->file, incoming->mode & 0777) &&
	       !futimens(incoming->file, times) &&
	       !rename(incoming->partial, incoming->path);
}

static void end_incoming(struct incoming *incoming, bool complete,
			 uint32_t mtime)
{
	if (incoming->file < 0)
		return;
	if (!incoming->error && complete && !give_name(incoming, mtime))
		incoming->error = errno;
	if (incoming->error || !complete)
		unlink(incoming->partial);
	close(incoming->file);
}

static bool take_pieces(int fd, struct incoming *incoming, uint32_t *mtime)
{
	char message[8];
	uint32_t length;

	for (;;) {
		if (!read_all(fd, message, sizeof(message)))
			return false;
		length = get_le32(message + 4);
		if (!memcmp(message, "DONE", 4)) {
			*mtime = length;
			return true;
		}
		if (memcmp(message, "DATA", 4) || length > sizeof(data) ||
		    !read_all(fd, data, length))
			return false;
		take_piece(incoming, length);
	}
}

/* "PATH,MODE", the mode in decimal */
static bool do_send(int fd, char *path)
{
	struct incoming incoming;
	char *comma = strrchr(path, ',');
	uint32_t mtime = 0;
	mode_t mode = 0644;
	bool complete;

	if (comma) {
		*comma = '\0';
		mode = strtoul(comma + 1, NULL, 10);
	}
	start_incoming(&incoming, path, mode);
	/* The sender says all before it listens, whatever went wrong here. */
	complete = take_pieces(fd, &incoming, &mtime);
	end_incoming(&incoming, complete, mtime);
	if (!complete) {
		fail(fd, path, "the transfer was cut off");
		return false;
	}
	if (incoming.error)
		return fail(fd, path, strerror(incoming.error));
	return answer(fd, "OKAY", 0);
}

static bool serve_request(int fd, const char *id, char *path)
{
	if (!memcmp(id, "STAT", 4))
		return do_stat(fd, path);
	if (!memcmp(id, "LIST", 4))
		return do_list(fd, path);
	if (!memcmp(id, "SEND", 4))
		return do_send(fd, path);
	if (!memcmp(id, "RECV", 4))
		return do_receive(fd, path);
	if (memcmp(id, "QUIT", 4))
		fail(fd, "sync", "no such request");
	return false;
}

int serve_sync(int fd)
{
	char request[8], path[MAX_PATH + 1];
	uint32_t length;

	umask(0);
	do {
		if (!read_all(fd, request, sizeof(request)))
			return 1;
		length = get_le32(request + 4);
		if (length > MAX_PATH) {
			fail(fd, "sync", "the path is too long");
			return 1;
		}
		if (!read_all(fd, path, length))
			return 1;
		path[length] = '\0';
	} while (serve_request(fd, request, path));
	return 0;
}
