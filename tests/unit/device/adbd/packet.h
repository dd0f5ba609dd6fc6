/* SPDX-License-Identifier: GPL-2.0-only */
/* Packets of the adb wire protocol, on one socket that does not block. */
#ifndef ADBD_PACKET_H
#define ADBD_PACKET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Four letters, as they stand on the wire. */
#define PACKET_COMMAND(a, b, c, d) \
	((uint32_t)(a) | (uint32_t)(b) << 8 | (uint32_t)(c) << 16 | \
	 (uint32_t)(d) << 24)
#define A_CNXN	PACKET_COMMAND('C', 'N', 'X', 'N')
#define A_OPEN	PACKET_COMMAND('O', 'P', 'E', 'N')
#define A_OKAY	PACKET_COMMAND('O', 'K', 'A', 'Y')
#define A_CLSE	PACKET_COMMAND('C', 'L', 'S', 'E')
#define A_WRTE	PACKET_COMMAND('W', 'R', 'T', 'E')

/* From this version on nobody looks at checksums. */
#define A_VERSION	0x01000001

/* The longest payload of a packet that is taken and made. */
#define MAX_PAYLOAD	(256 * 1024)

struct packet {
	uint32_t command;
	uint32_t arg0;
	uint32_t arg1;
	uint32_t length;
	const unsigned char *data;
};

enum packet_status {
	PACKET_NONE,		/* not all of it is here yet */
	PACKET_WHOLE,
	PACKET_BAD,		/* nothing after it can be trusted either */
};

/* The other side is older than A_VERSION and looks at checksums. */
void use_checksums(bool use);

/* Queue a packet; false if there is no memory. */
bool queue_packet(uint32_t command, uint32_t arg0, uint32_t arg1,
		  const void *data, size_t length);

/* Bytes that are queued. */
size_t queued_bytes(void);

/* Write what the socket takes of the queue; false if it is broken. */
bool write_packets(int fd);

/* Read what the socket has; false at its end or if it is broken. */
bool read_packets(int fd);

/* Take the next packet that has been read; it stays until the next call. */
enum packet_status next_packet(struct packet *packet);

#endif /* ADBD_PACKET_H */
