/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * adbd of the guest: the device's side of the adb wire protocol over TCP, as
 * far as the harness and a person at a shell need it: shell v1 and v2, sync.
 *
 * The listener forks a process for each connection, which takes the packets of
 * its streams apart (mux.c).  Each stream is a service in a process of its own
 * at the other end of a socket pair, so what is slow or stuck in one stream
 * does not hold up another, and the end of a connection reaches every service
 * as the end of its socket.
 */
#ifndef ADBD_H
#define ADBD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct settings {
	const char *shell;	/* program that runs commands */
};

extern struct settings settings;

/* mux.c: serve one connection until it ends. */
void serve_connection(int fd);

/*
 * service.c: start the service of a stream in a process.  Returns our end of
 * its socket, or -1 if there is no such service.
 */
int start_service(const char *name);

/* shell.c and sync.c: a service, at its end of the socket. */
int serve_shell(int fd, const char *options, const char *command);
int serve_sync(int fd);

/* service.c: kill all that the calling process has started, and theirs. */
void kill_descendants(void);

/* io.c: like read() and write(), but all of it or false. */
bool read_all(int fd, void *data, size_t length);
bool write_all(int fd, const void *data, size_t length);

/* Numbers of the protocol are little-endian. */
uint32_t get_le32(const void *data);
void put_le32(void *data, uint32_t value);

#endif /* ADBD_H */
