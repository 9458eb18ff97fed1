// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"go.etcd.io/bbolt"

	"github.com/lirios/ostree-upload/internal/wire"
)

// Work is something that is to follow publishes and is not done yet. Publishes that
// ask for the same work share one Work, until a run of it begins. Each of them has a
// number: the work is due for those from first to last.
type Work struct {
	Name  string    // unlike that of all other works
	Since time.Time // when it was first asked for
	Tries int       // how many of its tries failed
	Error string    // why the last one did
	Next  time.Time // when it is tried again after that

	Refs     []string // that moved, sorted; none if All
	All      bool     // they are too many to be kept
	Sessions []string // IDs of the sessions that wait for it, the oldest first
	More     int      // how many more sessions wait

	first, last uint64
}

// What is kept of the sessions that wait for a work: the rest is counted.
const (
	mostWaiting  = 100
	mostWorkRefs = 1000
	mostRefBytes = 32 << 10 // of all names of refs
)

// Ask is a work that is to follow a publish.
type Ask struct {
	Work  string
	Refs  []string  // of the publish, that the work concerns
	All   bool      // they are too many to be listed
	Error string    // it was tried within the publish, and failed
	Next  time.Time // with Error: when it is tried again
}

// asked is what a session keeps of a work that it asked for.
type asked struct {
	Work    string `json:"work"`
	Number  uint64 `json:"number"`
	Dropped bool   `json:"dropped,omitempty"`
}

// work is a Work as it stands in the file, under its name.
type work struct {
	Since    time.Time         `json:"since"`
	Tries    int               `json:"tries,omitempty"`
	Error    string            `json:"error,omitempty"`
	Next     time.Time         `json:"next,omitzero"`
	First    uint64            `json:"first,omitempty"`
	Last     uint64            `json:"last,omitempty"`
	Refs     map[string]uint64 `json:"refs,omitempty"` // with the number that asked last
	All      bool              `json:"all,omitempty"`
	Sessions []waiting         `json:"sessions,omitempty"`
	More     int               `json:"more,omitempty"`
}

type waiting struct {
	ID     string    `json:"id"`
	Number uint64    `json:"number"`
	At     time.Time `json:"at"`
}

func (w *work) work(name string) Work {
	out := Work{
		Name: name, Since: w.Since, Tries: w.Tries, Error: w.Error, Next: w.Next,
		All: w.All, More: w.More, first: w.First, last: w.Last,
	}
	if !w.All {
		out.Refs = slices.Sorted(maps.Keys(w.Refs))
	}
	for _, s := range w.Sessions {
		out.Sessions = append(out.Sessions, s.ID)
	}
	return out
}

// ask asks for works, within the transaction that makes them necessary, and returns
// what the session keeps of that.
func ask(tx *bbolt.Tx, session string, asks []Ask, now time.Time) (kept []asked, err error) {
	for _, a := range asks {
		number, err := a.add(tx, []string{session}, now)
		if err != nil {
			return nil, err
		}
		kept = append(kept, asked{Work: a.Work, Number: number})
	}
	return kept, nil
}

// add makes a work due, or due for more.
func (a *Ask) add(tx *bbolt.Tx, sessions []string, now time.Time) (number uint64, err error) {
	if number, err = tx.Bucket(worksBucket).NextSequence(); err != nil {
		return 0, err
	}
	w, there, err := readWork(tx, a.Work)
	if err != nil {
		return 0, err
	}
	if !there {
		w = work{Since: now, First: number}
	}
	w.Last = number
	w.addRefs(a.Refs, a.All, number)
	for _, id := range sessions {
		w.addSession(waiting{id, number, now})
	}
	if a.Error != "" {
		w.Tries, w.Error, w.Next = w.Tries+1, a.Error, a.Next
	}
	return number, w.write(tx, a.Work)
}

func (w *work) addRefs(refs []string, all bool, number uint64) {
	if w.All {
		return
	}
	if w.Refs == nil {
		w.Refs = map[string]uint64{}
	}
	for _, r := range refs {
		w.Refs[r] = number
	}
	bytes := 0
	for r := range w.Refs {
		bytes += len(r)
	}
	if all || len(w.Refs) > mostWorkRefs || bytes > mostRefBytes {
		w.Refs, w.All = nil, true
	}
}

func (w *work) addSession(s waiting) {
	if len(w.Sessions) < mostWaiting {
		w.Sessions = append(w.Sessions, s)
	} else {
		w.More++
	}
}

func readWork(tx *bbolt.Tx, name string) (w work, there bool, err error) {
	b := tx.Bucket(worksBucket).Get([]byte(name))
	if b == nil {
		return w, false, nil
	}
	if err := json.Unmarshal(b, &w); err != nil {
		return w, true, fmt.Errorf("read work %s: %w", name, err)
	}
	return w, true, nil
}

func (w *work) write(tx *bbolt.Tx, name string) error {
	b, err := json.Marshal(w)
	if err != nil {
		return fmt.Errorf("write work %s: %w", name, err)
	}
	return tx.Bucket(worksBucket).Put([]byte(name), b)
}

// Works lists the works that are due, by name.
func (j *Journal) Works() (due []Work, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		return tx.Bucket(worksBucket).ForEach(func(name, _ []byte) error {
			w, _, err := readWork(tx, string(name))
			due = append(due, w.work(string(name)))
			return err
		})
	})
	return due, err
}

// Work is the work of a name, if it is due.
func (j *Journal) Work(name string) (w Work, due bool, err error) {
	err = j.view(func(tx *bbolt.Tx) error {
		stored, there, err := readWork(tx, name)
		w, due = stored.work(name), there
		return err
	})
	return w, due, err
}

// WorkDone records that a work is done, as it was when Works listed it: it stays due
// for the publishes that have asked for it since. The works of again are to follow it
// once more, and its sessions wait for them, too.
func (j *Journal) WorkDone(w Work, again ...Ask) error {
	return j.update(func(tx *bbolt.Tx) error {
		if err := finish(tx, w, j.clock()); err != nil {
			return err
		}
		return askAgain(tx, w.Sessions, again, j.clock())
	})
}

// Ask asks for works after what some sessions have asked for, or for none.
func (j *Journal) Ask(sessions []string, asks ...Ask) error {
	return j.update(func(tx *bbolt.Tx) error { return askAgain(tx, sessions, asks, j.clock()) })
}

func askAgain(tx *bbolt.Tx, sessions []string, asks []Ask, now time.Time) error {
	for _, a := range asks {
		number, err := a.add(tx, sessions, now)
		if err != nil {
			return err
		}
		err = changeAsked(tx, sessions, a.Work, func(kept *asked) { *kept = asked{Work: a.Work, Number: number} })
		if err != nil {
			return err
		}
	}
	return nil
}

// WorkDropped records that a work is not done and will not be.
func (j *Journal) WorkDropped(w Work) error {
	return j.update(func(tx *bbolt.Tx) error {
		err := changeAsked(tx, w.Sessions, w.Name, func(kept *asked) { kept.Dropped = true })
		if err != nil {
			return err
		}
		return finish(tx, w, j.clock())
	})
}

// WorkFailed records that a try of a work failed, which stays due, and when it is tried
// again.
func (j *Journal) WorkFailed(w Work, cause string, next time.Time) error {
	return j.update(func(tx *bbolt.Tx) error {
		now, there, err := readWork(tx, w.Name)
		if err != nil {
			return err
		}
		if !there {
			return errUnchanged
		}
		now.Tries, now.Error, now.Next = now.Tries+1, cause, next
		return now.write(tx, w.Name)
	})
}

// finish takes from a work what a run of it was for. What has been asked since is left.
func finish(tx *bbolt.Tx, done Work, now time.Time) error {
	w, there, err := readWork(tx, done.Name)
	if err != nil {
		return err
	}
	if !there || w.First > done.last {
		return errUnchanged
	}
	if w.Last == done.last {
		return tx.Bucket(worksBucket).Delete([]byte(done.Name))
	}
	w.Tries, w.Error, w.Next = 0, "", time.Time{}
	w.First, w.Since, w.More = done.last+1, now, w.More-done.More
	maps.DeleteFunc(w.Refs, func(_ string, number uint64) bool { return number <= done.last })
	w.Sessions = slices.DeleteFunc(w.Sessions, func(s waiting) bool { return s.Number <= done.last })
	if len(w.Sessions) > 0 {
		w.Since = w.Sessions[0].At
	}
	return w.write(tx, done.Name)
}

// changeAsked changes what sessions keep of a work that they asked for, of those that
// the journal still has.
func changeAsked(tx *bbolt.Tx, sessions []string, name string, change func(*asked)) error {
	for _, id := range sessions {
		r, err := readRecord(tx, id)
		if errors.Is(err, ErrNotFound) {
			continue
		}
		if err != nil {
			return err
		}
		at := slices.IndexFunc(r.After, func(a asked) bool { return a.Work == name })
		if at < 0 {
			r.After, at = append(r.After, asked{Work: name}), len(r.After)
		}
		change(&r.After[at])
		if err := r.write(tx, id); err != nil {
			return err
		}
	}
	return nil
}

// after is how the works stand that a session asked for when it was published.
func (r *record) after(tx *bbolt.Tx) (all []wire.After, err error) {
	since := r.Updated.Truncate(time.Second)
	for _, a := range r.After {
		w, there, err := readWork(tx, a.Work)
		if err != nil {
			return nil, err
		}
		shown := wire.After{Work: a.Work, State: wire.WorkDone}
		switch {
		case a.Dropped:
			shown.State = wire.WorkDropped
		case !there || a.Number < w.First: // it is done
		case w.Tries > 0:
			shown = wire.After{Work: a.Work, State: wire.WorkFailed, Since: since, Error: w.Error, Next: w.Next.Truncate(time.Second)}
		default:
			shown = wire.After{Work: a.Work, State: wire.WorkDue, Since: since}
		}
		all = append(all, shown)
	}
	return all, nil
}
