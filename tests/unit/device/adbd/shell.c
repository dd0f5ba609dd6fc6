// SPDX-License-Identifier: GPL-2.0-only
/*
 * The shell service.
 *
 * Version 1 passes bytes as they are.  Version 2 puts each piece into a frame:
 * a byte that says what it is, a length, the bytes.  That keeps standard error
 * apart and brings the exit status back.
 *
 * A command that ends by itself leaves behind what it started in the
 * background, such as a daemon; nothing is waited for but the command.  If the
 * other side goes away first, all that the command has started is killed.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/wait.h>
#include <unistd.h>

#include "adbd.h"

#ifndef SHELL_PATH
#define SHELL_PATH	"/data/local/tmp:/bin:/sbin:/usr/bin:/usr/sbin"
#endif

enum frame_id {
	FRAME_STDIN,
	FRAME_STDOUT,
	FRAME_STDERR,
	FRAME_EXIT,
	FRAME_CLOSE_STDIN,
	FRAME_WINDOW_SIZE,
};

#define ARRAY_SIZE(array)	(sizeof(array) / sizeof((array)[0]))

#define FRAME_HEADER	5
#define PIECE		(32 * 1024)
/* What a pipe can still hold when the command has ended. */
#define MAX_PIECES_LEFT	64
#define PTY_DELAY_MS	20

struct shell {
	int socket;
	bool framed;		/* version 2 */
	bool pty;
	pid_t pid;
	int in, out, err;	/* of the command; -1 when closed; pty: all one */
	int children;		/* signalfd: a child has ended */
	bool ended;
	int status;
	bool hung_up;		/* the other side is gone */

	/* A frame, or bytes, on the way to the command's standard input. */
	char frame[FRAME_HEADER];
	size_t frame_size;
	char input[PIECE];
	size_t input_size, input_done;
	size_t input_left;	/* of the frame, not read yet */
	bool input_ends;
};

static void set_environment(const char *options)
{
	const char *term = strstr(options, "TERM=");
	char name[64];

	setenv("PATH", SHELL_PATH, 1);
	setenv("HOME", "/data/local/tmp", 1);
	setenv("TERM", "dumb", 1);
	if (term) {
		term += strlen("TERM=");
		snprintf(name, sizeof(name), "%.*s", (int)strcspn(term, ","),
			 term);
		setenv("TERM", name, 1);
	}
}

static void exec_command(const char *options, const char *command)
{
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_DFL);
	set_environment(options);
	if (chdir("/"))
		perror("adbd: /");
	if (*command)
		execl(settings.shell, settings.shell, "-c", command, NULL);
	else
		execl(settings.shell, settings.shell, "-", NULL);
	fprintf(stderr, "adbd: %s: %s\n", settings.shell, strerror(errno));
	_exit(127);
}

static bool start_on_pty(struct shell *shell, const char *options,
			 const char *command)
{
	int master;

	shell->pid = forkpty(&master, NULL, NULL, NULL);
	if (shell->pid < 0)
		return false;
	if (!shell->pid)
		exec_command(options, command);
	fcntl(master, F_SETFD, FD_CLOEXEC);
	fcntl(master, F_SETFL, O_NONBLOCK);
	shell->in = master;
	shell->out = master;
	return true;
}

static bool start_on_pipes(struct shell *shell, const char *options,
			   const char *command)
{
	int in[2], out[2], err[2];

	if (pipe2(in, O_CLOEXEC) || pipe2(out, O_CLOEXEC) ||
	    pipe2(err, O_CLOEXEC))
		return false;
	shell->pid = fork();
	if (shell->pid < 0)
		return false;
	if (!shell->pid) {
		setsid();
		dup2(in[0], STDIN_FILENO);
		dup2(out[1], STDOUT_FILENO);
		dup2(shell->framed ? err[1] : out[1], STDERR_FILENO);
		exec_command(options, command);
	}
	close(in[0]);
	close(out[1]);
	close(err[1]);
	shell->in = in[1];
	shell->out = out[0];
	shell->err = err[0];
	fcntl(shell->in, F_SETFL, O_NONBLOCK);
	fcntl(shell->out, F_SETFL, O_NONBLOCK);
	fcntl(shell->err, F_SETFL, O_NONBLOCK);
	return true;
}

static void send_piece(struct shell *shell, enum frame_id id, const char *data,
		       size_t length)
{
	char header[FRAME_HEADER] = { id };

	if (shell->framed) {
		put_le32(header + 1, length);
		shell->hung_up |= !write_all(shell->socket, header,
					     sizeof(header));
	}
	shell->hung_up |= !write_all(shell->socket, data, length);
}

/* Pass on what the command has written. */
static void pass_output(struct shell *shell, int *fd, enum frame_id id)
{
	static char data[PIECE];
	ssize_t n;

	n = read(*fd, data, sizeof(data));
	if (n > 0)
		send_piece(shell, id, data, n);
	/* A pty says EIO when nobody has it open any more. */
	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR)) {
		if (*fd == shell->in)
			shell->in = -1;
		close(*fd);
		*fd = -1;
	}
}

static void set_window_size(struct shell *shell)
{
	struct winsize size = { 0 };
	unsigned int rows, columns, x, y;

	shell->input[shell->input_size] = '\0';
	if (shell->pty && shell->in >= 0 &&
	    sscanf(shell->input, "%ux%u,%ux%u", &rows, &columns, &x, &y) == 4) {
		size.ws_row = rows;
		size.ws_col = columns;
		size.ws_xpixel = x;
		size.ws_ypixel = y;
		ioctl(shell->in, TIOCSWINSZ, &size);
	}
	shell->input_size = 0;
}

/* All of a frame's piece is here: what is it? */
static void take_piece(struct shell *shell)
{
	if (!shell->framed || shell->frame[0] == FRAME_STDIN)
		return;
	if (shell->frame[0] == FRAME_WINDOW_SIZE)
		set_window_size(shell);
	if (shell->frame[0] == FRAME_CLOSE_STDIN)
		shell->input_ends = true;
	shell->input_size = 0;
}

static ssize_t read_socket(struct shell *shell, void *data, size_t length)
{
	ssize_t n = read(shell->socket, data, length);

	if (!n || (n < 0 && errno != EAGAIN && errno != EINTR))
		shell->hung_up = true;
	return n > 0 ? n : 0;
}

/* Read a header, or as much of a frame as fits; nothing may be held. */
static void take_input(struct shell *shell)
{
	size_t want = sizeof(shell->input) - 1;

	if (shell->framed && !shell->input_left) {
		shell->frame_size += read_socket(shell,
						 shell->frame + shell->frame_size,
						 FRAME_HEADER - shell->frame_size);
		if (shell->frame_size < FRAME_HEADER)
			return;
		shell->frame_size = 0;
		shell->input_left = get_le32(shell->frame + 1);
		if (!shell->input_left)
			take_piece(shell);
		return;
	}
	if (shell->framed && want > shell->input_left)
		want = shell->input_left;
	shell->input_size = read_socket(shell, shell->input, want);
	shell->input_done = 0;
	if (shell->framed)
		shell->input_left -= shell->input_size;
	if (shell->input_size)
		take_piece(shell);
}

static void close_input(struct shell *shell)
{
	/* On a terminal, the end of input is a character. */
	if (shell->pty && shell->in >= 0)
		write_all(shell->in, "\004", 1);
	else if (shell->in >= 0)
		close(shell->in);
	if (!shell->pty)
		shell->in = -1;
	shell->input_ends = false;
}

static void give_input(struct shell *shell)
{
	ssize_t n;

	n = write(shell->in, shell->input + shell->input_done,
		  shell->input_size - shell->input_done);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	/* A command need not read its input. */
	shell->input_done = n < 0 ? shell->input_size : shell->input_done + n;
}

static bool has_input(const struct shell *shell)
{
	return shell->input_done < shell->input_size;
}

/* The command, and what it left behind that ended before it. */
static void reap_children(struct shell *shell)
{
	struct signalfd_siginfo info;
	int status;
	pid_t pid;

	if (read(shell->children, &info, sizeof(info)) < 0)
		return;
	while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
		if (pid != shell->pid)
			continue;
		shell->ended = true;
		shell->status = status;
	}
}

static void wait_for_something(struct shell *shell)
{
	struct pollfd polled[] = {
		{ .fd = shell->children, .events = POLLIN },
		{ .fd = shell->out, .events = POLLIN },
		{ .fd = shell->err, .events = POLLIN },
		{ .fd = has_input(shell) ? shell->in : -1, .events = POLLOUT },
		/* The end must be seen even while input is held. */
		{ .fd = shell->socket,
		  .events = has_input(shell) ? POLLRDHUP : POLLIN },
	};

	if (poll(polled, ARRAY_SIZE(polled), -1) < 0)
		return;
	if (polled[0].revents)
		reap_children(shell);
	if (polled[1].revents)
		pass_output(shell, &shell->out, FRAME_STDOUT);
	if (polled[2].revents)
		pass_output(shell, &shell->err, FRAME_STDERR);
	if (polled[3].revents && shell->in >= 0)
		give_input(shell);
	if (polled[4].revents & POLLIN && !has_input(shell))
		take_input(shell);
	else if (polled[4].revents)
		shell->hung_up = true;
	if (shell->in < 0)
		shell->input_done = shell->input_size;
	if (shell->input_ends && !has_input(shell))
		close_input(shell);
}

/* Pass on what is there; a daemon may hold the other end for ever. */
static void drain(struct shell *shell, int *fd, enum frame_id id)
{
	struct pollfd polled = { .events = POLLIN };
	int i;

	for (i = 0; i < MAX_PIECES_LEFT && *fd >= 0 && !shell->hung_up; i++) {
		polled.fd = *fd;
		/* A terminal passes bytes on a little later, from a work queue. */
		if (poll(&polled, 1, shell->pty ? PTY_DELAY_MS : 0) <= 0)
			return;
		pass_output(shell, fd, id);
	}
}

static void finish(struct shell *shell)
{
	char status;

	drain(shell, &shell->out, FRAME_STDOUT);
	drain(shell, &shell->err, FRAME_STDERR);
	status = WIFEXITED(shell->status) ? WEXITSTATUS(shell->status) :
					    128 + WTERMSIG(shell->status);
	if (shell->framed)
		send_piece(shell, FRAME_EXIT, &status, 1);
}

static int watch_children(void)
{
	sigset_t mask;

	sigemptyset(&mask);
	sigaddset(&mask, SIGCHLD);
	sigprocmask(SIG_BLOCK, &mask, NULL);
	return signalfd(-1, &mask, SFD_CLOEXEC | SFD_NONBLOCK);
}

int serve_shell(int fd, const char *options, const char *command)
{
	static struct shell shell;

	shell.socket = fd;
	shell.framed = strstr(options, ",v2");
	shell.pty = strstr(options, ",pty") ||
		    (!*command && !strstr(options, ",raw"));
	shell.in = -1;
	shell.out = -1;
	shell.err = -1;
	shell.children = watch_children();
	if (shell.pty ? !start_on_pty(&shell, options, command) :
			!start_on_pipes(&shell, options, command))
		return 1;

	while (!shell.ended && !shell.hung_up)
		wait_for_something(&shell);
	if (shell.ended)
		finish(&shell);
	else
		kill_descendants();
	return 0;
}
