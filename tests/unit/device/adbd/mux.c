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
#include "packet.h"

#define BANNER	"device::ro.product.name=mm;ro.product.model=mm;" \
		"ro.product.device=mm;features=shell_v2"

#define MAX_STREAMS	64
/* All that the host's side can ask for: its length has four digits there. */
#define MAX_NAME	(64 * 1024)
/* A smaller payload would not hold the names of services. */
#define MIN_PAYLOAD	64
/* While more than this waits to be sent, nothing is added by the services. */
#define QUEUE_ENOUGH	(2 * MAX_PAYLOAD)
/* And from this on nothing is taken: who does not listen gets no answers. */
#define QUEUE_FULL	(4 * MAX_PAYLOAD)

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
static uint32_t max_payload;
static bool connected;

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
		return queue_packet(A_CLSE, 0, remote, NULL, 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	stream->local = next_local++;
	stream->remote = remote;
	stream->fd = fd;
	return queue_packet(A_OKAY, stream->local, remote, NULL, 0);
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
	return queue_packet(A_OKAY, stream->local, stream->remote, NULL, 0);
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
	int i;

	/* The other side starts anew: it knows nothing of these streams. */
	for (i = 0; i < MAX_STREAMS; i++)
		if (streams[i].local)
			forget_stream(&streams[i]);
	connected = true;
	use_checksums(version < A_VERSION);
	max_payload = max < MAX_PAYLOAD ? max : MAX_PAYLOAD;
	return max_payload >= MIN_PAYLOAD &&
	       queue_packet(A_CNXN, A_VERSION, MAX_PAYLOAD, BANNER,
			    strlen(BANNER));
}

static bool take_open(const struct packet *packet)
{
	static char name[MAX_NAME];

	if (!packet->arg0 || packet->length >= sizeof(name))
		return queue_packet(A_CLSE, 0, packet->arg0, NULL, 0);
	memcpy(name, packet->data, packet->length);
	name[packet->length] = '\0';
	return open_stream(packet->arg0, name);
}

/* Act on a packet; false if it makes no sense and the connection must end. */
static bool take_packet(const struct packet *packet)
{
	struct stream *stream;

	if (packet->command == A_CNXN)
		return connect_host(packet->arg0, packet->arg1);
	if (!connected)
		return false;
	if (packet->command == A_OPEN)
		return take_open(packet);
	/* The other side may not know yet that a stream has ended. */
	stream = packet->arg1 ? find_stream(packet->arg1) : NULL;
	if (!stream || stream->remote != packet->arg0)
		return true;
	if (packet->command == A_WRTE)
		return take_data(stream, packet->data, packet->length);
	if (packet->command == A_OKAY)
		stream->unanswered = false;
	else if (packet->command == A_CLSE)
		forget_stream(stream);
	return true;
}

static bool take_packets(int connection)
{
	enum packet_status status;
	struct packet packet;

	if (!read_packets(connection))
		return false;
	while ((status = next_packet(&packet)) == PACKET_WHOLE)
		if (!take_packet(&packet))
			return false;
	return status == PACKET_NONE;
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
		return queue_packet(A_WRTE, stream->local, stream->remote, data,
				    n);
	}
	n = queue_packet(A_CLSE, stream->local, stream->remote, NULL, 0);
	forget_stream(stream);
	return n;
}

static bool may_speak(const struct stream *stream)
{
	return !stream->unanswered && queued_bytes() < QUEUE_ENOUGH;
}

static short wanted_events(const struct stream *stream)
{
	return (may_speak(stream) ? POLLIN : 0) | (stream->held ? POLLOUT : 0);
}

static bool serve_stream(struct stream *stream, short happened)
{
	if (stream->held && happened & (POLLOUT | POLLHUP | POLLERR) &&
	    !feed_service(stream))
		return false;
	/* The streams before this one may have filled the queue. */
	if (happened & (POLLIN | POLLHUP | POLLERR) && may_speak(stream))
		return hear_service(stream);
	return true;
}

static bool serve_peer(int connection, short happened)
{
	if (happened & POLLOUT && !write_packets(connection))
		return false;
	if (happened & (POLLIN | POLLHUP | POLLERR))
		return take_packets(connection);
	return true;
}

static short wanted_of_peer(void)
{
	return (queued_bytes() ? POLLOUT : 0) |
	       (queued_bytes() < QUEUE_FULL ? POLLIN : 0);
}

static bool serve_once(int connection)
{
	struct pollfd polled[MAX_STREAMS + 1];
	struct stream *of[MAX_STREAMS + 1];
	int count = 1, i;

	polled[0].fd = connection;
	polled[0].events = wanted_of_peer();
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
	return serve_peer(connection, polled[0].revents);
}

void serve_connection(int fd)
{
	fcntl(fd, F_SETFL, O_NONBLOCK);
	while (serve_once(fd))
		;
}
