// SPDX-License-Identifier: AGPL-3.0-or-later
//
// Reads types and bytes in hex ("-" for none), one pair a line, and writes behind
// each what GLib says: 1 normal form, 0 not, 2 normal by its word although GLib
// itself would write other bytes.
#include <glib.h>
#include <stdio.h>
#include <string.h>

// Builds a value again from its parts, as a program would that has just these.
static GVariant *rebuild(GVariant *v)
{
	if (!g_variant_is_container(v))
		return g_variant_ref(v);
	GVariantBuilder b;
	g_variant_builder_init(&b, g_variant_get_type(v));
	for (gsize i = 0; i < g_variant_n_children(v); i++) {
		GVariant *child = g_variant_get_child_value(v, i);
		GVariant *part = rebuild(child);
		g_variant_builder_add_value(&b, part);
		g_variant_unref(part);
		g_variant_unref(child);
	}
	return g_variant_ref_sink(g_variant_builder_end(&b));
}

static int verdict(const char *type, const guint8 *bytes, gsize n)
{
	GBytes *in = g_bytes_new(bytes, n);
	GVariant *v = g_variant_ref_sink(g_variant_new_from_bytes(G_VARIANT_TYPE(type), in, FALSE));
	int result = g_variant_is_normal_form(v);
	if (result) {
		GVariant *again = rebuild(v);
		if (g_variant_get_size(again) != n || (n > 0 && memcmp(g_variant_get_data(again), bytes, n) != 0))
			result = 2;
		g_variant_unref(again);
	}
	g_variant_unref(v);
	g_bytes_unref(in);
	return result;
}

int main(void)
{
	static char type[1 << 16], hex[1 << 20];
	static guint8 bytes[1 << 19];

	printf("# type, bytes in hex, 1 if GLib %u.%u takes them for the normal form\n", glib_major_version, glib_minor_version);
	while (scanf("%65535s %1048575s", type, hex) == 2) {
		gsize n = strcmp(hex, "-") == 0 ? 0 : strlen(hex) / 2;
		for (gsize i = 0; i < n; i++) {
			unsigned byte;
			if (sscanf(hex + 2 * i, "%2x", &byte) != 1)
				return 1;
			bytes[i] = byte;
		}
		printf("%s %s %d\n", type, hex, verdict(type, bytes, n));
	}
	return 0;
}
