// SPDX-License-Identifier: AGPL-3.0-or-later

// Package wire is what client and server say to each other: the JSON documents
// of the API, object lists, the pack framing and the limits that both keep.
// docs/protocol.md describes the same for people.
//
// Sizes and offsets are bytes, times are UTC. Values are plain data and safe to
// share once filled in.
package wire

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"time"
)

// Limits of the protocol; both sides keep them.
const (
	// MaxNames is the most object names in one negotiation request.
	MaxNames = 20_000
	// MaxBody is the most bytes of a request body, inflated.
	MaxBody = 2 << 20
	// PackTarget is the size at which a client closes a pack.
	PackTarget = 8 << 20
	// PackFrames is how many objects a client puts into one: very small ones take
	// more memory on both sides than they have bytes.
	PackFrames = 8192
	// MaxPack is the largest pack upload that a server accepts.
	MaxPack = 16 << 20
	// MaxPackPayload is the largest object that may travel in a pack.
	MaxPackPayload = 4 << 20
	// MaxProblems is how many problems a session document lists.
	MaxProblems = 1000
	// PageSize is how many sessions, or moves of a ref, a list has, unless it is asked for another
	// number, and MaxPage the largest.
	PageSize = 100
	MaxPage  = 1000
	// MaxWait is the longest that a server holds a request with ?wait=.
	MaxWait = time.Minute
)

// Session states, as they stand in documents and in the journal.
const (
	Open       = "open"
	Verifying  = "verifying"
	Publishing = "publishing"
	Published  = "published"
	Failed     = "failed"
	Aborted    = "aborted"
	Expired    = "expired"
	Held       = "held"     // verified, and waits for somebody to publish or reject it
	Rejected   = "rejected" // after it was held
)

// States are all of them.
var States = []string{Open, Verifying, Publishing, Published, Failed, Aborted, Expired, Held, Rejected}

// Ref is one ref of a session: it moves from Old ("" for a new ref) to New ("" for one
// that is deleted), both 64 hex digits.
type Ref struct {
	Ref string `json:"ref"`
	Old string `json:"old"`
	New string `json:"new"`
}

// OpenRequest is the body of POST /api/v1/sessions.
type OpenRequest struct {
	Refs  []Ref `json:"refs"`
	Force bool  `json:"force"`
	// Promote says that the session brings no object: its commits are in the repository.
	// See FeaturePromote.
	Promote bool `json:"promote,omitempty"`
	Repair  bool `json:"repair,omitempty"`  // verify what the repository has of these objects; see FeatureRepair
	Hold    bool `json:"hold,omitempty"`    // do not publish it before somebody else says so
	DryRun  bool `json:"dry-run,omitempty"` // check the request, open nothing
	// Commits are some of those that the refs move to, so that it is known before anything
	// is sent that one lacks signatures. See FeaturePolicy.
	Commits []SignedCommit `json:"commits,omitempty"`
}

// SignedCommit is a commit object and its detached metadata, as they are sent.
type SignedCommit struct {
	Commit     []byte `json:"commit"`
	CommitMeta []byte `json:"commitmeta,omitempty"`
}

// MaxSigned is of how many commits it is told when a session is opened whether they lack
// signatures.
const MaxSigned = 100

// Moves names what the session is to do: the SHA-256, in hex, of a line "force" if it
// is forced, a line "promote" if it brings nothing, a line "repair" if it is to repair,
// a line "hold" if it is to be held, and a line "ref old new" for each ref, in the order of their names. Old is empty for a
// new ref, New for a deleted one.
func (o OpenRequest) Moves() string {
	lines := make([]string, 0, len(o.Refs))
	for _, r := range o.Refs {
		lines = append(lines, r.Ref+" "+r.Old+" "+r.New+"\n")
	}
	slices.Sort(lines)
	h := sha256.New()
	if o.Force {
		_, _ = io.WriteString(h, "force\n") // a hash takes everything
	}
	if o.Promote {
		_, _ = io.WriteString(h, "promote\n")
	}
	if o.Repair {
		_, _ = io.WriteString(h, "repair\n")
	}
	if o.Hold {
		_, _ = io.WriteString(h, "hold\n")
	}
	for _, l := range lines {
		_, _ = io.WriteString(h, l)
	}
	return hex.EncodeToString(h.Sum(nil))
}

// Session is a push session as every answer shows it.
type Session struct {
	ID       string          `json:"id"`
	State    string          `json:"state"`
	Force    bool            `json:"force"`
	Promote  bool            `json:"promote,omitempty"`
	Repair   bool            `json:"repair,omitempty"`
	Token    string          `json:"token"`
	Refs     []Ref           `json:"refs"`      // in a list, and of a session long ended, the first few
	RefCount int             `json:"ref-count"` // 0 from a server that always shows all
	Moves    string          `json:"moves"`     // of all of them: OpenRequest.Moves
	Created  time.Time       `json:"created"`
	Updated  time.Time       `json:"updated"`
	Expires  time.Time       `json:"expires"`
	Objects  Objects         `json:"objects"`
	Bytes    Bytes           `json:"bytes"`
	Uploads  []Upload        `json:"uploads,omitzero"` // nil, and so left out, in a list
	Problems []ObjectProblem `json:"problems"`         // in a list, the first few
	Error    string          `json:"error"`
	Detail   string          `json:"detail"`
	After    []After         `json:"after,omitempty"` // the works that follow its publish
	// Hold says that it is not published before a token of scope publish says so. By is
	// the name of the token that did, or that rejected it.
	Hold bool   `json:"hold,omitempty"`
	By   string `json:"by,omitempty"`
	// Preview is the path, below the server's address, of a repository that shows a held
	// session to whoever knows the path.
	Preview string   `json:"preview,omitempty"`
	Handed  []Handed `json:"handed,omitempty"` // how it came to its token, if another opened it
	// Remote is the address that opened it or, later, asked to finalize it.
	Remote string `json:"remote,omitempty"`
	// Interrupted counts the requests with bytes of its uploads that broke off, since the
	// server was started.
	Interrupted int64  `json:"interrupted,omitempty"`
	Steps       []Step `json:"steps,omitempty"` // the states that it was in; not in a list
	// Commits are what its refs move from and to, if that is asked for.
	Commits map[string]CommitInfo `json:"commits,omitempty"`
}

// Step is a state that a session was in, and since when.
type Step struct {
	State string    `json:"state"`
	At    time.Time `json:"at"`
}

// CommitInfo is what a commit says to people.
type CommitInfo struct {
	Subject string    `json:"subject"` // the first bytes of a long one
	Time    time.Time `json:"time"`    // when it was made, as its maker says
}

// Handed says that a session went from one token to another, by their names.
type Handed struct {
	From string    `json:"from"`
	To   string    `json:"to"`
	By   string    `json:"by"` // who did it: a third token or, if From is valid no more, To
	At   time.Time `json:"at"`
}

// OwnerRequest asks that a session belong to another token.
type OwnerRequest struct {
	Token string `json:"token"` // its name
}

// After is a work that follows the publish of a session.
type After struct {
	Work  string    `json:"work"` // its name
	State string    `json:"state"`
	Since time.Time `json:"since,omitzero"`  // when it became due, as long as it is
	Error string    `json:"error,omitempty"` // why the last try failed
	Next  time.Time `json:"next,omitzero"`   // when it is tried again after that
}

// States of a work.
const (
	WorkDue     = "due"     // not tried yet
	WorkFailed  = "failed"  // tried in vain, and tried again
	WorkDone    = "done"    // for this session
	WorkDropped = "dropped" // not done: the server's configuration does not ask for it any more
)

// Following are the works of the session that are not done, and will be.
func (s *Session) Following() (left []After) {
	for _, a := range s.After {
		if a.State != WorkDone && a.State != WorkDropped {
			left = append(left, a)
		}
	}
	return left
}

// Objects counts the objects of a session's set.
type Objects struct {
	Known    int64 `json:"known"`
	Missing  int64 `json:"missing"`
	Staged   int64 `json:"staged"`
	Rejected int64 `json:"rejected"`
}

// Bytes counts what arrived for a session: upload bytes received, and bytes of
// the objects staged from them.
type Bytes struct {
	Received int64 `json:"received"`
	Staged   int64 `json:"staged"`
}

// Upload is an upload under way.
type Upload struct {
	Name   string `json:"name"`
	Offset int64  `json:"offset"`
	Size   int64  `json:"size"`
}

// ObjectProblem says what is wrong with one object of a session.
type ObjectProblem struct {
	Object string `json:"object"`
	Code   string `json:"code"`
	Reason string `json:"reason"`
}

// Rejection is the body of POST /api/v1/sessions/{id}/reject.
type Rejection struct {
	Reason string `json:"reason"`
}

// MaxReason is how many bytes the reason of a rejection may have.
const MaxReason = 1000

// SessionList is the answer of GET /api/v1/sessions, newest first.
type SessionList struct {
	Sessions []Session `json:"sessions"`
	Next     string    `json:"next,omitempty"` // if there may be more: their ?before=
}

// RefState is what the server's ref names: a commit, and the SHA-256 of that
// commit's detached metadata ("" if it has none).
type RefState struct {
	Commit     string `json:"commit"` // "" if it is an alias of a ref that there is not
	CommitMeta string `json:"commitmeta"`
	// Alias is what the ref is only another name of: a symbolic link on the server.
	Alias string   `json:"alias,omitempty"`
	Moved *RefMove `json:"moved,omitempty"` // its last move, if it is asked for and remembered
}

// RefList is the answer of GET /api/v1/refs.
type RefList struct {
	Refs map[string]RefState `json:"refs"`
	Next string              `json:"next,omitempty"` // if there are more: their ?after=
}

// RefMove is how a ref moved, in its log.
type RefMove struct {
	At      time.Time `json:"at"`
	Token   string    `json:"token"`
	By      string    `json:"by,omitempty"` // the token that had it published, if it was held
	Session string    `json:"session"`
	How     string    `json:"how"`
	Force   bool      `json:"force"`
	Old     string    `json:"old"` // "" if the ref was new
	New     string    `json:"new"` // "" if it was deleted
	// Bytes is how many bytes of objects its session brought, for all of its refs.
	Bytes int64 `json:"bytes,omitempty"`
}

// How a ref moved.
const (
	Pushed     = "pushed"
	Set        = "set"         // to a commit that was there
	RolledBack = "rolled-back" // to one that the ref had before
	Deleted    = "deleted"
)

// RefLog is the answer of GET /api/v1/refs/{ref}/log: the moves of a ref, the newest
// first.
type RefLog struct {
	Ref   string    `json:"ref"`
	Moves []RefMove `json:"moves"`
	Next  string    `json:"next,omitempty"` // if there are more: their ?before=
	// Commits are those of the moves, if that is asked for.
	Commits map[string]CommitInfo `json:"commits,omitempty"`
}

// Info is the answer of GET /api/v1/info.
type Info struct {
	Version string     `json:"version"`
	Mode    string     `json:"mode"` // as in the repository's config: archive-z2, bare, ...
	Tus     string     `json:"tus"`  // path of the tus endpoint
	Limits  InfoLimits `json:"limits"`
	// Servers of earlier versions leave out what follows.
	CollectionID string     `json:"collection-id,omitempty"`
	Free         *int64     `json:"free,omitempty"`         // bytes that uploads may still take on the disk
	FreeBecause  string     `json:"free-because,omitempty"` // what keeps that from being more, in words
	Token        *InfoToken `json:"token,omitempty"`
	// Encodings are how objects may travel: package encode has the names. Without any,
	// only in archive form.
	Encodings []string `json:"encodings,omitempty"`
	// Features are what else the server can do that earlier versions cannot.
	Features []string `json:"features,omitempty"`
}

// FeaturePromote says that the server takes sessions that bring no object or delete
// refs, and tells of aliases and past moves of refs.
const FeaturePromote = "promote"

// FeatureRepair says that the server takes sessions that are to repair.
const FeatureRepair = "repair"

// FeatureHold says that the server holds sessions, for others to publish.
const FeatureHold = "hold"

// FeaturePolicy says that commits need signatures here, and that OpenRequest.Commits are
// looked at.
const FeaturePolicy = "policy"

// InfoToken says what the token of the request may do.
type InfoToken struct {
	Name   string    `json:"name"`
	Scopes []string  `json:"scopes"`
	Refs   *[]string `json:"refs,omitempty"` // globs; nil: all refs, empty: none
}

// InfoLimits are the server's limits; 0 means none.
type InfoLimits struct {
	MaxObjectSize   int64 `json:"max-object-size"`
	MaxMetadataSize int64 `json:"max-metadata-size"` // 0: a server of an earlier version, which takes 10 MiB
	MaxSessionSize  int64 `json:"max-session-size"`
	MaxPack         int64 `json:"max-pack"`
	MaxPackPayload  int64 `json:"max-pack-payload"`
	MaxNames        int   `json:"max-names"`
	MaxRefs         int   `json:"max-refs"`    // of one session
	MaxObjects      int64 `json:"max-objects"` // that one session names
	// Of packs of the second kind; see package encode.
	MaxWindow   int64 `json:"max-window,omitempty"`
	MaxInflated int64 `json:"max-inflated,omitempty"`
	MaxFrames   int   `json:"max-frames,omitempty"`
	MaxMade     int64 `json:"max-made,omitempty"`
	MaxSource   int64 `json:"max-source,omitempty"`
}

// Codes of errors (RFC 9457 type URNs end in them) and of session outcomes.
const (
	BadRequest          = "bad-request"
	Unauthorized        = "unauthorized"
	Forbidden           = "forbidden"
	NotFound            = "not-found"
	SessionClosed       = "session-closed"
	Exists              = "exists"
	TooLarge            = "too-large"
	Policy              = "policy"
	RefConflict         = "ref-conflict"
	Quota               = "quota"
	Internal            = "internal"
	Unavailable         = "unavailable"
	InsufficientStorage = "insufficient-storage"
	MissingObjects      = "missing-objects"
	BadObjects          = "bad-objects"
	RefMoved            = "ref-moved"
	NotFastForward      = "not-fast-forward"
)

var statusOf = map[string]int{
	BadRequest: 400, Unauthorized: 401, Forbidden: 403, NotFound: 404,
	SessionClosed: 409, Exists: 409, TooLarge: 413, Policy: 422, RefConflict: 422,
	Quota: 429, Internal: 500, Unavailable: 503, InsufficientStorage: 507,
	// Outcomes of a session; as HTTP errors only where one is refused at once.
	MissingObjects: 422, BadObjects: 422, RefMoved: 409, NotFastForward: 422,
}

// TypePrefix starts the type of every Problem.
const TypePrefix = "urn:ostree-upload:"

// ProblemType is the media type of a Problem (RFC 9457).
const ProblemType = "application/problem+json"

// States of a repository, of several that a server has.
const (
	RepositoryOK      = "ok"
	RepositoryOpening = "opening"
	RepositoryFailed  = "failed" // and is tried again
)

// Health is what /healthz of several repositories says: the state of each, besides a
// problem if none can be used.
type Health struct {
	*Problem
	Repositories map[string]string `json:"repositories"`
}

// Problem is an error document of RFC 9457, and the error itself on both sides.
type Problem struct {
	Type   string `json:"type"`
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail"`
	HintIs string `json:"hint,omitempty"`
	// Request is the ID under which the server's log has the request.
	Request string `json:"request,omitempty"`
}

// Errorf makes the Problem of a code, with the status that belongs to it.
func Errorf(code, format string, args ...any) *Problem {
	return &Problem{
		Type:   TypePrefix + code,
		Title:  titleOf(code),
		Status: statusOf[code],
		Detail: fmt.Sprintf(format, args...),
	}
}

// WithHint adds what a person can do next.
func (p *Problem) WithHint(format string, args ...any) *Problem {
	p.HintIs = fmt.Sprintf(format, args...)
	return p
}

// Error is the detail, or the title if there is none.
func (p *Problem) Error() string {
	if p.Detail != "" {
		return p.Detail
	}
	return p.Title
}

// Hint says what a person can do next, or "".
func (p *Problem) Hint() string { return p.HintIs }

// Code is the last part of the type: one of the codes above.
func (p *Problem) Code() string {
	if len(p.Type) > len(TypePrefix) && p.Type[:len(TypePrefix)] == TypePrefix {
		return p.Type[len(TypePrefix):]
	}
	return ""
}

func titleOf(code string) string {
	b := []byte(code)
	for i, c := range b {
		if c == '-' {
			b[i] = ' '
		}
	}
	return string(b)
}
