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
	BytesResent int64        `json:"bytes-resent"` // upload bytes that went out once more after they were lost
	Retries     int64        `json:"retries"`      // requests that had to be repeated
	Rounds      int          `json:"rounds"`       // times that objects were sent again
	Seconds     Seconds      `json:"seconds"`      // how long it took
	Error       string       `json:"error,omitempty"`
	ErrorCode   string       `json:"error-code,omitempty"`
	ExitCode    int          `json:"exit-code"`
	ResumeWith  string       `json:"resume,omitempty"` // the command that goes on
}

// Seconds says how long the stages took. Walk, Negotiate and Upload overlap:
// each counts from the start of the walk to the stage's last act. Check is a
// part of Finalize.
type Seconds struct {
	Walk      float64 `json:"walk"`
	Negotiate float64 `json:"negotiate"`
	Upload    float64 `json:"upload"`
	Check     float64 `json:"check"`    // waiting for the ingest of what was sent
	Finalize  float64 `json:"finalize"` // from the last byte to the outcome
	Total     float64 `json:"total"`
}

// Progress counts what a push has done so far. A reporter reads it from another
// goroutine while Run works.
type Progress struct {
	Walked       atomic.Int64 // objects found by the walk
	Negotiated   atomic.Int64 // objects that the server was asked about
	Listed       atomic.Bool  // Lacking is the final count
	Lacking      atomic.Int64 // objects of those that it lacks
	Begun        atomic.Int64 // objects in uploads that were begun
	BegunBytes   atomic.Int64 // bytes of those uploads, less what was there before
	Sent         atomic.Int64 // objects in uploads that the server has whole
	Acknowledged atomic.Int64 // upload bytes that the server acknowledged
	Resent       atomic.Int64 // upload bytes that went out once more
	Retries      atomic.Int64

	stage atomic.Int32
}

// A Stage is what a push is at.
type Stage int32

const (
	Walking    Stage = iota // nothing is on its way yet
	Uploading               // the walk may go on
	Verifying               // the server has all of it and checks
	Publishing              // the refs move
)

func (s Stage) String() string {
	return [...]string{"walking", "uploading", "verifying", "publishing"}[s]
}

// Stage is what the push is at.
func (p *Progress) Stage() Stage { return Stage(p.stage.Load()) }

// Set enters a stage.
func (p *Progress) Set(s Stage) { p.stage.Store(int32(s)) }

// begin counts an upload that is on its way from now on.
func (p *Progress) begin(c *content) {
	p.Begun.Add(int64(len(c.parts)))
	p.BegunBytes.Add(c.size)
	p.Set(Uploading)
}

// LeftBytes estimates the upload bytes still to go: those of uploads begun,
// and for objects without one as much as the others have on average. It is -1
// as long as nobody knows how many those are.
func (p *Progress) LeftBytes() int64 {
	begun, bytes := p.Begun.Load(), p.BegunBytes.Load()
	if !p.Listed.Load() {
		return -1
	}
	left := bytes - p.Acknowledged.Load()
	if begun > 0 {
		left += max(0, p.Lacking.Load()-begun) * (bytes / begun)
	}
	return max(0, left)
}

// copyTo puts the counts into r.
func (p *Progress) copyTo(r *Result) {
	r.Objects = p.Walked.Load()
	r.ObjectsSent = p.Sent.Load()
	r.BytesSent = p.Acknowledged.Load()
	r.BytesResent = p.Resent.Load()
	r.Retries = p.Retries.Load()
}

func since(t time.Time) float64 { return time.Since(t).Seconds() }
