// SPDX-License-Identifier: GPL-2.0-only
/*
 * One connection: packets of many streams on one socket.
 *
 * Either side may have one WRTE of a stream on its way until the other answers
 * OKAY.  Ours is sent when the service has taken all of the last one, so at
 * most one payload a stream is ever held here.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adbd.h"

#define COMMAND(a, b, c, d)	((a) | (b) << 8 | (c) << 16 | (uint32_t)(d) << 24)
#define A_CNXN	COMMAND('C', 'N', 'X', 'N')
#define A_OPEN	COMMAND('O', 'P', 'E', 'N')
#define A_OKAY	COMMAND('O', 'K', 'A', 'Y')
#define A_CLSE	COMMAND('C', 'L', 'S', 'E')
#define A_WRTE	COMMAND('W', 'R', 'T', 'E')

#define A_VERSION		0x01000001
#define A_VERSION_NO_CHECKSUM	0x01000001
#define BANNER	"device::ro.product.name=mmlimits;ro.product.model=mmlimits;" \
		"ro.product.device=mmlimits;features=shell_v2"

#define HEADER_SIZE	24
#define MAX_STREAMS	64
/* No stream is read while more than this waits to be sent. */
#define OUT_ENOUGH	(2 * MAX_PAYLOAD)

struct stream {
	uint32_t local;		/* our id; 0 if this entry is free */
	uint32_t remote;
	int fd;			/* of the service */
	bool unanswered;	/* our WRTE has no OKAY yet */
	char *held;		/* payload that the service has not taken */
	size_t held_size;
	size_t held_done;
};

static struct stream streams[MAX_STREAMS];
static uint32_t next_local = 1;
static uint32_t max_payload = 4096;
static bool want_checksum = true;
static bool connected;
static int connection;

static unsigned char in[HEADER_SIZE + MAX_PAYLOAD];
static size_t in_size;
static unsigned char *out;
static size_t out_size, out_room;

static uint32_t checksum(const unsigned char *data, size_t length)
{
	uint32_t sum = 0;

	while (length--)
		sum += *data++;
	return sum;
}

static bool send_packet(uint32_t command, uint32_t arg0, uint32_t arg1,
			const void *data, size_t length)
{
	unsigned char *at;

	if (out_size + HEADER_SIZE + length > out_room) {
		out_room = out_size + HEADER_SIZE + length + MAX_PAYLOAD;
		at = realloc(out, out_room);
		if (!at)
			return false;
		out = at;
	}
	at = out + out_size;
	put_le32(at, command);
	put_le32(at + 4, arg0);
	put_le32(at + 8, arg1);
	put_le32(at + 12, length);
	put_le32(at + 16, want_checksum ? checksum(data, length) : 0);
	put_le32(at + 20, ~command);
	if (length)
		memcpy(at + HEADER_SIZE, data, length);
	out_size += HEADER_SIZE + length;
	return true;
}

static struct stream *find_stream(uint32_t local)
{
	int i;

	for (i = 0; i < MAX_STREAMS; i++)
		if (streams[i].local == local)
			return &streams[i];
	return NULL;
}

static void forget_stream(struct stream *stream)
{
	/* The service sees the end of its socket and ends what it started. */
	close(stream->fd);
	free(stream->held);
	memset(stream, 0, sizeof(*stream));
}

static bool open_stream(uint32_t remote, const char *name)
{
	struct stream *stream = find_stream(0);
	int fd = stream ? start_service(name) : -1;

	if (fd < 0)
		return send_packet(A_CLSE, 0, remote, NULL, 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	stream->local = next_local++;
	stream->remote = remote;
	stream->fd = fd;
	return send_packet(A_OKAY, stream->local, remote, NULL, 0);
}

/* Give the service more of what is held; answer when it has all. */
static bool feed_service(struct stream *stream)
{
	ssize_t n = write(stream->fd, stream->held + stream->held_done,
			  stream->held_size - stream->held_done);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	/* A service that does not listen any more may still have to tell. */
	stream->held_done = n < 0 ? stream->held_size : stream->held_done + n;
	if (stream->held_done < stream->held_size)
		return true;
	free(stream->held);
	stream->held = NULL;
	return send_packet(A_OKAY, stream->local, stream->remote, NULL, 0);
}

static bool take_data(struct stream *stream, const void *data, size_t length)
{
	if (stream->held)
		return false;	/* the other side did not wait for our OKAY */
	stream->held = malloc(length ? length : 1);
	if (!stream->held)
		return false;
	memcpy(stream->held, data, length);
	stream->held_size = length;
	stream->held_done = 0;
	return feed_service(stream);
}

static bool connect_host(uint32_t version, uint32_t max)
{
	connected = true;
	want_checksum = version < A_VERSION_NO_CHECKSUM;
	max_payload = max < MAX_PAYLOAD ? max : MAX_PAYLOAD;
	return max_payload >= 64 &&
	       send_packet(A_CNXN, A_VERSION, MAX_PAYLOAD, BANNER,
			   strlen(BANNER));
}

/* Act on a packet; false if it makes no sense and the connection must end. */
static bool take_packet(uint32_t command, uint32_t arg0, uint32_t arg1,
			unsigned char *data, size_t length)
{
	struct stream *stream;
	char name[4096];

	if (command == A_CNXN)
		return connect_host(arg0, arg1);
	if (!connected)
		return false;
	if (command == A_OPEN) {
		if (!arg0 || length >= sizeof(name))
			return send_packet(A_CLSE, 0, arg0, NULL, 0);
		memcpy(name, data, length);
		name[length] = '\0';
		return open_stream(arg0, name);
	}
	/* The other side may not know yet that a stream has ended. */
	stream = arg1 ? find_stream(arg1) : NULL;
	if (!stream)
		return true;
	if (command == A_WRTE)
		return take_data(stream, data, length);
	if (command == A_OKAY)
		stream->unanswered = false;
	else if (command == A_CLSE)
		forget_stream(stream);
	return true;
}

static bool take_packets(void)
{
	size_t at = 0, length;
	uint32_t command;

	while (in_size - at >= HEADER_SIZE) {
		command = get_le32(in + at);
		length = get_le32(in + at + 12);
		if (get_le32(in + at + 20) != ~command || length > MAX_PAYLOAD)
			return false;
		if (in_size - at < HEADER_SIZE + length)
			break;
		if (!take_packet(command, get_le32(in + at + 4),
				 get_le32(in + at + 8), in + at + HEADER_SIZE,
				 length))
			return false;
		at += HEADER_SIZE + length;
	}
	memmove(in, in + at, in_size - at);
	in_size -= at;
	return true;
}

static bool receive(void)
{
	ssize_t n = read(connection, in + in_size, sizeof(in) - in_size);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	in_size += n;
	return n && take_packets();
}

static bool transmit(void)
{
	ssize_t n = write(connection, out, out_size);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	memmove(out, out + n, out_size - n);
	out_size -= n;
	return true;
}

/* Pass on what a service says, or that it has ended. */
static bool hear_service(struct stream *stream)
{
	static char data[MAX_PAYLOAD];
	ssize_t n = read(stream->fd, data, max_payload);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return true;
	if (n > 0) {
		stream->unanswered = true;
		return send_packet(A_WRTE, stream->local, stream->remote, data,
				   n);
	}
	n = send_packet(A_CLSE, stream->local, stream->remote, NULL, 0);
	forget_stream(stream);
	return n;
}

static short wanted_events(const struct stream *stream)
{
	short events = 0;

	if (!stream->unanswered && out_size < OUT_ENOUGH)
		events |= POLLIN;
	if (stream->held)
		events |= POLLOUT;
	return events;
}

static bool serve_stream(struct stream *stream, short happened)
{
	if (happened & POLLOUT && stream->held && !feed_service(stream))
		return false;
	if (happened & (POLLIN | POLLHUP | POLLERR) && !stream->unanswered)
		return hear_service(stream);
	return true;
}

static bool serve_once(void)
{
	struct pollfd polled[MAX_STREAMS + 1];
	struct stream *of[MAX_STREAMS + 1];
	int count = 1, i;

	polled[0].fd = connection;
	polled[0].events = POLLIN | (out_size ? POLLOUT : 0);
	for (i = 0; i < MAX_STREAMS; i++) {
		/* A dead service shows as a hang-up that cannot be masked. */
		if (!streams[i].local || !wanted_events(&streams[i]))
			continue;
		polled[count].fd = streams[i].fd;
		polled[count].events = wanted_events(&streams[i]);
		of[count++] = &streams[i];
	}
	if (poll(polled, count, -1) < 0)
		return errno == EINTR;
	for (i = 1; i < count; i++)
		if (polled[i].revents && !serve_stream(of[i], polled[i].revents))
			return false;
	if (polled[0].revents & POLLOUT && !transmit())
		return false;
	if (polled[0].revents & (POLLIN | POLLHUP | POLLERR))
		return receive();
	return true;
}

void serve_connection(int fd)
{
	connection = fd;
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (serve_once())
		;
}
