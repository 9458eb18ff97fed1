// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/wire"
)

// Result is what a push did; as JSON it is what push --json prints.
type Result struct {
	Session     wire.Session `json:"session,omitzero"`
	Refs        []wire.Ref   `json:"refs"` // those that were to move
	NothingToDo bool         `json:"nothing-to-do"`
	DryRun      bool         `json:"dry-run"`
	Resumed     bool         `json:"resumed"`
	Objects     int64        `json:"objects"`      // found by the walk
	ObjectsSent int64        `json:"objects-sent"` // in uploads that the server has whole
	BytesWalked int64        `json:"bytes-walked"` // of Objects; a dry run only
	BytesSent   int64        `json:"bytes-sent"`   // upload bytes that the server acknowledged
	BytesResent int64        `json:"bytes-resent"` // upload bytes that went out and did not count
	Retries     int64        `json:"retries"`      // requests that had to be repeated
	Rounds      int          `json:"rounds"`       // times that objects were sent again
	Seconds     Seconds      `json:"seconds"`      // how long it took
	Error       string       `json:"error,omitempty"`
	ErrorCode   string       `json:"error-code,omitempty"`
	ExitCode    int          `json:"exit-code"`
	ResumeWith  string       `json:"resume,omitempty"` // the command that goes on
}

// Seconds says how long the stages took. Walk, Negotiate and Upload overlap:
// each counts from the start of the walk to the stage's last act.
type Seconds struct {
	Walk      float64 `json:"walk"`
	Negotiate float64 `json:"negotiate"`
	Upload    float64 `json:"upload"`
	Check     float64 `json:"check"` // waiting for the ingest of what was sent
	Finalize  float64 `json:"finalize"`
	Total     float64 `json:"total"`
}

// Progress counts what a push has done so far. A reporter reads it from another
// goroutine while Run works.
type Progress struct {
	Walked       atomic.Int64 // objects found by the walk
	Negotiated   atomic.Int64 // objects that the server was asked about
	Lacking      atomic.Int64 // objects of those that it lacks
	Sent         atomic.Int64 // objects in uploads that the server has whole
	Acknowledged atomic.Int64 // upload bytes that the server acknowledged
	Written      atomic.Int64 // upload bytes that went out, lost ones too
	Retries      atomic.Int64
}

// copyTo puts the counts into r.
func (p *Progress) copyTo(r *Result) {
	r.Objects = p.Walked.Load()
	r.ObjectsSent = p.Sent.Load()
	r.BytesSent = p.Acknowledged.Load()
	r.BytesResent = max(0, p.Written.Load()-r.BytesSent)
	r.Retries = p.Retries.Load()
}

func since(t time.Time) float64 { return time.Since(t).Seconds() }
