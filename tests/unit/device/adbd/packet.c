// SPDX-License-Identifier: GPL-2.0-only
/* Packets of the adb wire protocol, on one socket that does not block. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "adbd.h"
#include "packet.h"

/* Six numbers: command, two arguments, length, checksum, ~command. */
#define HEADER_SIZE	24

static bool checksums = true;

/* Room for one packet of any size, so a read always has some. */
static unsigned char in[HEADER_SIZE + MAX_PAYLOAD];
static size_t in_size;
static size_t in_taken;		/* of in: packets that were handed out */

static unsigned char *out;
static size_t out_size;
static size_t out_room;

void use_checksums(bool use)
{
	checksums = use;
}

static uint32_t checksum(const unsigned char *data, size_t length)
{
	uint32_t sum = 0;

	while (length--)
		sum += *data++;
	return sum;
}

static bool make_room(size_t size)
{
	unsigned char *bigger;

	if (out_size + size <= out_room)
		return true;
	bigger = realloc(out, out_size + size + MAX_PAYLOAD);
	if (!bigger)
		return false;
	out = bigger;
	out_room = out_size + size + MAX_PAYLOAD;
	return true;
}

bool queue_packet(uint32_t command, uint32_t arg0, uint32_t arg1,
		  const void *data, size_t length)
{
	unsigned char *at;

	if (!make_room(HEADER_SIZE + length))
		return false;
	at = out + out_size;
	put_le32(at, command);
	put_le32(at + 4, arg0);
	put_le32(at + 8, arg1);
	put_le32(at + 12, length);
	put_le32(at + 16, checksums ? checksum(data, length) : 0);
	put_le32(at + 20, ~command);
	if (length)
		memcpy(at + HEADER_SIZE, data, length);
	out_size += HEADER_SIZE + length;
	return true;
}

size_t queued_bytes(void)
{
	return out_size;
}

bool write_packets(int fd)
{
	ssize_t n = write(fd, out, out_size);

	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	memmove(out, out + n, out_size - n);
	out_size -= n;
	return true;
}

bool read_packets(int fd)
{
	ssize_t n;

	in_size -= in_taken;
	memmove(in, in + in_taken, in_size);
	in_taken = 0;
	n = read(fd, in + in_size, sizeof(in) - in_size);
	if (n < 0)
		return errno == EAGAIN || errno == EINTR;
	in_size += n;
	return n > 0;
}

enum packet_status next_packet(struct packet *packet)
{
	const unsigned char *at = in + in_taken;
	size_t left = in_size - in_taken;

	if (left < HEADER_SIZE)
		return PACKET_NONE;
	packet->command = get_le32(at);
	packet->arg0 = get_le32(at + 4);
	packet->arg1 = get_le32(at + 8);
	packet->length = get_le32(at + 12);
	packet->data = at + HEADER_SIZE;
	if (get_le32(at + 20) != ~packet->command ||
	    packet->length > MAX_PAYLOAD)
		return PACKET_BAD;
	if (left - HEADER_SIZE < packet->length)
		return PACKET_NONE;
	in_taken += HEADER_SIZE + packet->length;
	return PACKET_WHOLE;
}
