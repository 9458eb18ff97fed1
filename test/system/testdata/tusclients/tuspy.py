# SPDX-License-Identifier: AGPL-3.0-or-later

# Uploads a file as one object: ENDPOINT TOKEN SESSION OBJECT FILE
import sys
from tusclient.client import TusClient
from tusclient.exceptions import TusCommunicationError

endpoint, token, session, object, file = sys.argv[1:]
client = TusClient(endpoint, headers={'Authorization': 'Bearer ' + token})
for last in (False, True):  # it repeats chunks, and leaves creations to its caller
    try:
        uploader = client.uploader(file, metadata={'session': session, 'object': object}, chunk_size=1 << 20, retries=3, retry_delay=0)
        uploader.upload()
        break
    except TusCommunicationError:
        if last:
            raise
