// SPDX-License-Identifier: AGPL-3.0-or-later

package fake

import (
	"io"
	"net/http"
	"sync/atomic"
)

// Once lets a fault happen at the nth request of a method only.
func Once(method string, nth int32, fault http.HandlerFunc) func(http.ResponseWriter, *http.Request) bool {
	var n atomic.Int32
	return func(w http.ResponseWriter, r *http.Request) bool {
		if r.Method != method || n.Add(1) != nth {
			return false
		}
		fault(w, r)
		return true
	}
}

// AnswerWith answers with an error that is not the server's own.
func AnswerWith(code int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		http.Error(w, body, code)
	}
}

// HangUp breaks the connection off.
func HangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

// Quiet is where an answer gets lost.
type Quiet struct{}

// Header returns one that nobody reads.
func (Quiet) Header() http.Header { return http.Header{} }

// Write drops b.
func (Quiet) Write(b []byte) (int, error) { return len(b), nil }

// WriteHeader does nothing.
func (Quiet) WriteHeader(int) {}
