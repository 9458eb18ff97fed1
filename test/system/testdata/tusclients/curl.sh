#!/bin/sh
# SPDX-License-Identifier: AGPL-3.0-or-later

# Uploads a file as one object: ENDPOINT TOKEN SESSION OBJECT FILE
set -eu
b64() { printf %s "$1" | base64 -w0; }
location=$(curl -sS --fail --retry 3 --retry-all-errors --retry-delay 1 -o /dev/null -w '%header{location}' -X POST \
	-H "Authorization: Bearer $2" -H 'Tus-Resumable: 1.0.0' -H "Upload-Length: $(stat -c %s "$5")" \
	-H "Upload-Metadata: session $(b64 "$3"),object $(b64 "$4")" "$1")
curl -sS --fail -X PATCH -H "Authorization: Bearer $2" -H 'Tus-Resumable: 1.0.0' -H 'Upload-Offset: 0' \
	-H 'Content-Type: application/offset+octet-stream' --data-binary "@$5" "$1$location" -o /dev/null
