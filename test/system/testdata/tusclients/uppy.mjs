// SPDX-License-Identifier: AGPL-3.0-or-later

// Uploads a file as one object: ENDPOINT TOKEN SESSION OBJECT FILE
import { readFileSync } from 'node:fs'
import Uppy from '@uppy/core'
import Tus from '@uppy/tus'
import { DefaultHttpStack } from 'tus-js-client'

// Uppy sets a property of the browser's request, which Node has none of.
class Stack extends DefaultHttpStack {
  createRequest(method, url) {
    const request = super.createRequest(method, url)
    request.getUnderlyingObject = () => ({})
    return request
  }
}

const [endpoint, token, session, object, file] = process.argv.slice(2)
const uppy = new Uppy({ autoProceed: false })
uppy.use(Tus, {
  endpoint,
  httpStack: new Stack({}),
  headers: { Authorization: `Bearer ${token}` },
  allowedMetaFields: ['session', 'object'],
  retryDelays: [50, 100, 200],
})
uppy.addFile({ name: object, data: readFileSync(file), meta: { session, object } })
const { failed } = await uppy.upload()
if (failed.length > 0) console.error(failed[0].error)
process.exit(failed.length)
