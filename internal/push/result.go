// SPDX-License-Identifier: AGPL-3.0-or-later

package push

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
)

// Result is what a push did; as JSON it is what push --json prints.
type Result struct {
	Session     wire.Session `json:"session,omitzero"`
	Sessions    []string     `json:"sessions,omitempty"` // all that were published, if there were several; Session is the last
	Refs        []wire.Ref   `json:"refs"`               // those that were to move
	Left        []Left       `json:"left"`               // those that a push of all refs left out
	NothingToDo bool         `json:"nothing-to-do"`
	OlderAbsent int64        `json:"older-absent"` // with NothingToDo: older commits here that the server lacks
	DryRun      bool         `json:"dry-run"`
	Resumed     bool         `json:"resumed"`
	Objects     int64        `json:"objects"`      // found by the walk
	ObjectsSent int64        `json:"objects-sent"` // in uploads that the server has whole
	BytesWalked int64        `json:"bytes-walked"` // of Objects; a dry run only
	BytesSent   int64        `json:"bytes-sent"`   // upload bytes that the server acknowledged
	BytesSaved  int64        `json:"bytes-saved"`  // what archive form would have had more, of what Encodings has
	Encodings   ways         `json:"encodings"`    // what travelled in each, once the server has it whole
	BytesResent int64        `json:"bytes-resent"` // upload bytes that went out once more after they were lost
	Retries     int64        `json:"retries"`      // requests that had to be repeated
	Rounds      int          `json:"rounds"`       // times that objects were sent again
	Repair      *Repair      `json:"repair,omitempty"`
	Seconds     Seconds      `json:"seconds"` // how long it took
	Error       string       `json:"error,omitempty"`
	ErrorCode   string       `json:"error-code,omitempty"`
	Hint        string       `json:"hint,omitempty"` // the next step after an error
	ExitCode    int          `json:"exit-code"`
	ResumeWith  string       `json:"resume,omitempty"`  // the command that goes on
	Request     string       `json:"request,omitempty"` // ID that the requests had, which the server's log has

	finished bool // all is published, whatever happened after that
}

// Repair says what came of a repair that was published.
type Repair struct {
	Objects int64 `json:"objects"` // of the commits, all verified
	Absent  int64 `json:"absent"`  // of these, those that were damaged or not there
}

// Done tells whether the push did all that it could: at most, refs were left out
// that cannot be pushed, or what is to follow the publish was waited for in vain.
func (r *Result) Done() bool { return r.ExitCode == 0 || r.finished }

// Left is a ref that a push of all refs left out, and why.
type Left struct {
	Ref    string `json:"ref"`
	Reason string `json:"reason"`
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
	There      atomic.Int64 // objects of the session that the server had before this run
	ThereBytes atomic.Int64 // bytes of those
	Walked     atomic.Int64 // objects found by the walk
	Listed     atomic.Bool  // Lacking is the final count
	Lacking    atomic.Int64 // objects that the server lacks, of those that it was asked about
	Begun      atomic.Int64 // objects in uploads that were begun
	BegunBytes atomic.Int64 // bytes of those uploads
	Sent       atomic.Int64 // objects in uploads that the server has whole
	Offered    atomic.Int64 // bytes that lacking objects have here, if some are encoded
	Traffic    client.Traffic
	ways       sentWays

	stage atomic.Int32
	note  atomic.Pointer[string] // what the server says it waits for; nil: nothing
}

// A Stage is the part of its work that a push is doing.
type Stage int32

const (
	Walking    Stage = iota // no upload has begun yet
	Uploading               // the walk may go on
	Verifying               // the server has all bytes and checks them
	Publishing              // the refs move
	Following               // they have moved, and works are waited for
)

func (s Stage) String() string {
	return [...]string{"walking", "uploading", "verifying", "publishing", "published, waits for"}[s]
}

// Stage is what the push is doing.
func (p *Progress) Stage() Stage { return Stage(p.stage.Load()) }

// Set enters a stage.
func (p *Progress) Set(s Stage) { p.stage.Store(int32(s)) }

// begin counts an upload that is on its way from now on.
func (p *Progress) begin(objects int, bytes int64) {
	p.Begun.Add(int64(objects))
	p.BegunBytes.Add(bytes)
	p.Set(Uploading)
}

// sent counts an upload that the server has whole.
func (p *Progress) sent(objects int, w ways) {
	p.Sent.Add(int64(objects))
	p.ways.add(w)
}

// resumed counts what the server has already of a session.
func (p *Progress) resumed(s wire.Session) {
	p.There.Store(s.Objects.Staged)
	p.ThereBytes.Store(s.Bytes.Staged)
}

// noted keeps what the server says about a session that it works on.
func (p *Progress) noted(s wire.Session) {
	if s.Detail == "" {
		p.note.Store(nil)
		return
	}
	p.note.Store(&s.Detail)
}

// DoneBytes are the upload bytes that the server has, from this run and those
// before, and those that are on their way.
func (p *Progress) DoneBytes() int64 {
	t := &p.Traffic
	return p.ThereBytes.Load() + t.Skipped.Load() + t.Acknowledged.Load() + t.Underway()
}

// Saved is how many bytes less were sent than the objects have here.
func (p *Progress) Saved() (saved int64) {
	for _, w := range p.ways.copy() {
		saved += w.Archive - w.Bytes
	}
	return saved
}

// TotalBytes estimates the upload bytes of the whole session: those of uploads begun
// and, for each other object that is known to be lacking, as much as one has on
// average.
func (p *Progress) TotalBytes() int64 {
	begun, bytes := p.Begun.Load(), p.BegunBytes.Load()
	if begun > 0 {
		bytes += max(0, p.Lacking.Load()-begun) * (bytes / begun)
	}
	return max(p.ThereBytes.Load()+bytes, p.DoneBytes())
}

// result is what the push did, ended by e or, if that is nil, by success.
func (r *run) result(e *Error) *Result {
	p := r.progress
	result := &Result{
		// Lists are [], never null.
		Session: r.session, Refs: append([]wire.Ref{}, slices.Concat(r.done, r.refs, r.later)...), Left: append([]Left{}, r.left...),
		NothingToDo: r.nothingToDo, OlderAbsent: r.olderAbsent, DryRun: r.opt.DryRun, Resumed: r.resumed,
		Objects: p.Walked.Load(), ObjectsSent: p.Sent.Load(), BytesWalked: r.bytesWalked,
		BytesSent: p.Traffic.Acknowledged.Load(), BytesResent: p.Traffic.Resent.Load(),
		Encodings: p.ways.copy(), BytesSaved: p.Saved(),
		Retries: p.Traffic.Retries.Load(), Rounds: r.rounds, Seconds: r.seconds,
		Request: r.client.RequestID(), finished: r.finished,
	}
	if len(r.sessions) > 1 || len(r.later) > 0 {
		result.Sessions = r.sessions
	}
	if r.session.ID != "" && r.session.Problems == nil {
		result.Session.Problems = []wire.ObjectProblem{}
	}
	if r.repairs() && r.session.State == wire.Published {
		result.Repair = &Repair{Objects: result.Objects, Absent: r.absent}
	}
	if e != nil {
		result.Error, result.ErrorCode, result.ExitCode, result.Hint = e.Error(), e.Code, e.Exit, e.HintText
		result.ResumeWith = r.resumeCommand()
		result.Request = cmp.Or(e.Request, result.Request)
	}
	return result
}

func since(t time.Time) float64 { return time.Since(t).Seconds() }
