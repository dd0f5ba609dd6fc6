// SPDX-License-Identifier: GPL-2.0-only
/*
 * A device for the unit tests: speaks adb on this machine, at an address of one's
 * choice.  The guest runs Android's own adbd.  This is the listener: a process for each
 * connection.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "adbd.h"

struct settings settings = { .shell = "/bin/sh" };

static int usage(const char *program)
{
	fprintf(stderr, "usage: %s [-p PORT] [-a ADDRESS] [-r SHELL] [-n]\n"
		"  -p  port (default 5555)\n"
		"  -a  address to listen at (default 0.0.0.0)\n"
		"  -r  program that runs commands (default /bin/sh)\n"
		"  -n  say \"guest: ready\" on standard output when listening\n",
		program);
	return 2;
}

static int listen_at(const char *address, const char *port)
{
	struct sockaddr_in at = { .sin_family = AF_INET };
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), one = 1;
	char *end;
	long number = strtol(port, &end, 10);

	if (*end || number < 1 || number > 65535 ||
	    inet_pton(AF_INET, address, &at.sin_addr) != 1) {
		errno = EINVAL;
		return -1;
	}
	at.sin_port = htons(number);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (fd < 0 || bind(fd, (struct sockaddr *)&at, sizeof(at)) ||
	    listen(fd, 16))
		return -1;
	return fd;
}

static void accept_forever(int listener)
{
	int fd, one = 1;

	for (;;) {
		fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
		if (fd < 0) {
			/* No memory or files now; perhaps in a moment. */
			if (errno != EINTR)
				usleep(100000);
			continue;
		}
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
		if (!fork()) {
			close(listener);
			serve_connection(fd);
			_exit(0);
		}
		close(fd);
	}
}

int main(int argc, char **argv)
{
	const char *address = "0.0.0.0", *port = "5555";
	bool notify = false;
	int option, listener;

	while ((option = getopt(argc, argv, "p:a:r:n")) != -1) {
		switch (option) {
		case 'p':
			port = optarg;
			break;
		case 'a':
			address = optarg;
			break;
		case 'r':
			settings.shell = optarg;
			break;
		case 'n':
			notify = true;
			break;
		default:
			return usage(argv[0]);
		}
	}
	if (optind != argc)
		return usage(argv[0]);

	signal(SIGPIPE, SIG_IGN);
	/* Nobody waits for connections and services: let them go by themselves. */
	signal(SIGCHLD, SIG_IGN);
	listener = listen_at(address, port);
	if (listener < 0) {
		fprintf(stderr, "adbd: cannot listen at %s:%s: %s\n", address,
			port, strerror(errno));
		return 1;
	}
	if (notify) {
		printf("guest: ready\n");
		fflush(stdout);
	}
	accept_forever(listener);
}
