// SPDX-License-Identifier: AGPL-3.0-or-later

// Uploads a file as one object: ENDPOINT TOKEN SESSION OBJECT FILE
import { readFileSync } from 'node:fs'
import { Upload } from 'tus-js-client'

const [endpoint, token, session, object, file] = process.argv.slice(2)
new Upload(readFileSync(file), {
  endpoint,
  headers: { Authorization: `Bearer ${token}` },
  metadata: { session, object },
  retryDelays: [50, 100, 200],
  onError: (error) => { console.error(error); process.exit(1) },
  onSuccess: () => process.exit(0),
}).start()
