// SPDX-License-Identifier: GPL-2.0-only
/* Calls, and those who make them as somebody else. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "fuzz.h"

#define APPS		8
#define TEXT		(MAX_LENGTH * 80)

static struct {
	int requests, answers;
} apps[APPS];

int read_rows(struct entry *rows, int room, size_t size)
{
	static char text[TEXT];
	int fd = open("/proc/mm_limits", O_RDONLY | O_CLOEXEC), nr = 0;
	size_t length = 0;
	char *line;
	ssize_t n;

	if (fd < 0)
		wrong("/proc/mm_limits: %s", strerror(errno));
	while (length < TEXT - 1) {
		if (size > TEXT - 1 - length)
			size = TEXT - 1 - length;
		n = read(fd, text + length, size);
		if (n <= 0)
			break;
		length += n;
	}
	close(fd);
	text[length] = '\0';
	/* The first line is the header. */
	for (line = strchr(text, '\n'); line && line[1] && nr < room;
	     line = strchr(line + 1, '\n')) {
		if (sscanf(line + 1, "%u %lu", &rows[nr].uid,
			   &rows[nr].max) != 2)
			wrong("a row that cannot be read: %.60s", line + 1);
		nr++;
	}
	return nr;
}

struct answer serve(struct request request)
{
	struct answer answer = { 0 };

	switch (request.what) {
	case SET:
		answer.ret = set_mm_limits(request.uid, request.value);
		break;
	case KILLER:
		answer.ret = my_oom_killer(request.value);
		break;
	case ROWS:
		answer.nr = read_rows(answer.rows, 4, request.value);
		break;
	}
	if (answer.ret < 0)
		answer.ret = -errno;
	return answer;
}

void start_app(int number, uid_t uid)
{
	int requests[2], answers[2];
	pid_t parent = getpid();
	struct request request;
	struct answer answer;

	if (pipe2(requests, O_CLOEXEC) || pipe2(answers, O_CLOEXEC))
		wrong("pipe: %s", strerror(errno));
	if (!fork()) {
		if (!become_user(uid) || !die_with_parent(parent))
			_exit(EXIT_FAILURE);
		while (read(requests[0], &request, sizeof(request)) ==
		       sizeof(request)) {
			answer = serve(request);
			if (write(answers[1], &answer, sizeof(answer)) !=
			    sizeof(answer))
				break;
		}
		_exit(EXIT_SUCCESS);
	}
	close(requests[0]);
	close(answers[1]);
	apps[number].requests = requests[1];
	apps[number].answers = answers[0];
}

struct answer ask_app(int number, struct request request)
{
	struct answer answer;

	if (write(apps[number].requests, &request, sizeof(request)) !=
	    sizeof(request) ||
	    read(apps[number].answers, &answer, sizeof(answer)) !=
	    sizeof(answer))
		wrong("app %d has died", number);
	return answer;
}
