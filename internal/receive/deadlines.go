// SPDX-License-Identifier: AGPL-3.0-or-later

package receive

import (
	"cmp"
	"net/http"
	"time"
)

// How long a client may take. A connection has one of these deadlines in each of
// its states; tusd sets that of an upload's body, a minute from its last byte.
const (
	headerTime = 15 * time.Second // for the header, and the TLS handshake
	bodyTime   = time.Minute      // for the body, uploads apart
	answerTime = time.Minute      // for each answerPart of the answer
	idleTime   = 2 * time.Minute  // between two requests
)

// headerBytes bounds the header of a request, which is read before its token is known.
const headerBytes = 64 << 10

// answerPart is how much of an answer a client has to take within answerTime.
const answerPart = 64 << 10

// Timed answers by h, and gives clients as much time for its answers as for those of a
// Server.
func Timed(h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { h.ServeHTTP(&timedWriter{ResponseWriter: w}, r) })
}

// timedWriter gives a client time for each part of the answer. A deadline for all of
// it would count the work before the answer, too. It keeps the status. Once there is
// something to send, the server waits for the client.
type timedWriter struct {
	http.ResponseWriter
	status int   // 0 before there is one
	work   *work // nil where there is none
}

// sent is the status of the answer: net/http sends 200 where nothing was written.
func (w *timedWriter) sent() int { return cmp.Or(w.status, http.StatusOK) }

// outcome is the status that a request counts as: one whose handler panics gets no
// answer, or a part of one.
func (w *timedWriter) outcome(panics bool) int {
	if panics {
		return http.StatusInternalServerError
	}
	return w.sent()
}

// Unwrap lets http.ResponseController through.
func (w *timedWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w *timedWriter) WriteHeader(status int) {
	w.renew()
	if status >= 200 { // else another follows
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *timedWriter) Write(b []byte) (n int, err error) {
	w.status = w.sent()
	for {
		w.renew()
		part := b[n:min(len(b), n+answerPart)]
		written, err := w.ResponseWriter.Write(part)
		if n += written; err != nil || n == len(b) {
			return n, err
		}
	}
}

func (w *timedWriter) renew() {
	if w.work != nil {
		w.work.leave()
	}
	// Where a connection has no deadlines, there is none to renew.
	_ = http.NewResponseController(w.ResponseWriter).SetWriteDeadline(time.Now().Add(answerTime))
}

// leaveBody has a request answered whose body nobody reads, and the connection closed:
// whoever has no token, or sends what is refused, must not make the server wait for
// it. net/http would read on first.
func leaveBody(w http.ResponseWriter, r *request) {
	if r.ContentLength == 0 {
		return
	}
	if r.work != nil {
		r.work.chargeLeft(r.ContentLength)
	}
	if r.ProtoMajor == 1 {
		w.Header().Set("Connection", "close")
	}
	// Where a connection has no deadlines, there is none to set.
	_ = http.NewResponseController(w).SetReadDeadline(time.Now())
}
