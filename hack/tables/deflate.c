// SPDX-License-Identifier: AGPL-3.0-or-later
//
// Reads raw deflate streams in hex, one a line, and writes behind each the SHA-256
// of its content if zlib takes all of it, else "-".
#include <glib.h>
#include <stdio.h>
#include <string.h>
#include <zlib.h>

int main(void)
{
	static char line[1 << 20];
	static unsigned char stream[1 << 19], content[1 << 16];

	printf("# raw deflate in hex, SHA-256 of the content if zlib %s takes all of it\n", zlibVersion());
	while (scanf("%1048575s", line) == 1) {
		size_t n = strlen(line) / 2;
		for (size_t i = 0; i < n; i++) {
			unsigned byte;
			if (sscanf(line + 2 * i, "%2x", &byte) != 1)
				return 1;
			stream[i] = byte;
		}
		z_stream z = { .next_in = stream, .avail_in = n };
		if (inflateInit2(&z, -MAX_WBITS) != Z_OK)
			return 1;
		GChecksum *sum = g_checksum_new(G_CHECKSUM_SHA256);
		int status = Z_OK;
		while (status == Z_OK) {
			z.next_out = content;
			z.avail_out = sizeof content;
			status = inflate(&z, Z_NO_FLUSH);
			g_checksum_update(sum, content, sizeof content - z.avail_out);
		}
		int whole = status == Z_STREAM_END && z.avail_in == 0;
		printf("%s %s\n", line, whole ? g_checksum_get_string(sum) : "-");
		g_checksum_free(sum);
		inflateEnd(&z);
	}
	return 0;
}
