// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/ostree"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

var (
	file = object(1)
	meta = ostree.Name{Checksum: file.Checksum, Type: ostree.CommitMeta}
)

// statusOf gives the status of one object, by Statuses.
func statusOf(t testing.TB, j *Journal, id string, n ostree.Name) Status {
	t.Helper()
	s, err := j.Statuses(id, []ostree.Name{n})
	must.OK(t, err)
	return s[0]
}

// What becomes of each status by each of the ways to change it. 0: not in the set.
func TestStatusChanges(t *testing.T) {
	add := func(s Status) func(*Journal, string, ostree.Name) error {
		return func(j *Journal, id string, n ostree.Name) error { return j.Add(id, []Entry{{n, s}}) }
	}
	record := func(reason string) func(*Journal, string, ostree.Name) error {
		return func(j *Journal, id string, n ostree.Name) error {
			return j.Record(id, Upload{Name: "pack", Objects: []Result{{Name: n, Reason: reason}}})
		}
	}
	problem := func(code string) func(*Journal, string, ostree.Name) error {
		return func(j *Journal, id string, n ostree.Name) error {
			return j.Withdraw(id, []wire.ObjectProblem{{Object: n.String(), Code: code}}, nil)
		}
	}
	tests := []struct {
		name   string
		change func(j *Journal, id string, n ostree.Name) error
		object ostree.Name
		after  [5]Status // by the status before: 0, Missing, Present, Staged, Rejected
		fails  bool      // when the object is not in the set
	}{
		{"add missing", add(Missing), file, [5]Status{Missing, Missing, Missing, Missing, Rejected}, false},
		{"add present", add(Present), file, [5]Status{Present, Present, Present, Present, Present}, false},
		{"add staged", add(Staged), file, [5]Status{Staged, Staged, Staged, Staged, Staged}, false},
		{"add rejected", add(Rejected), file, [5]Status{Rejected, Rejected, Rejected, Rejected, Rejected}, false},
		{"add commitmeta", add(Missing), meta, [5]Status{Missing, Missing, Present, Staged, Rejected}, false},
		{"add staged commitmeta", add(Staged), meta, [5]Status{Staged, Missing, Present, Staged, Rejected}, false},
		{"record staged", record(""), file, [5]Status{0, Staged, Staged, Staged, Staged}, true},
		{"record rejected", record("bad"), file, [5]Status{0, Rejected, Present, Staged, Rejected}, true},
		{"record staged commitmeta", record(""), meta, [5]Status{0, Staged, Staged, Staged, Staged}, true},
		{"found missing", problem(wire.MissingObjects), file, [5]Status{Missing, Missing, Missing, Missing, Missing}, false},
		{"found bad", problem(wire.BadObjects), file, [5]Status{Rejected, Rejected, Rejected, Rejected, Rejected}, false},
	}
	j := newJournal(t)
	j.db.NoSync = true
	for _, test := range tests {
		for before, want := range test.after {
			t.Run(fmt.Sprintf("%s to %d", test.name, before), func(t *testing.T) {
				id := create(t, j)
				if before != 0 {
					must.OK(t, j.Add(id, []Entry{{test.object, Status(before)}}))
				}
				for range 2 { // every step may be repeated
					err := test.change(j, id, test.object)
					if fails := before == 0 && test.fails; (err != nil) != fails {
						t.Fatalf("error is %v", err)
					}
					if got := statusOf(t, j, id, test.object); got != want {
						t.Errorf("status is %v, want %v", got, want)
					}
				}
			})
		}
	}
}

func TestAdd(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	must.OK(t, j.Add(id, objects(0, 500, Missing)))
	must.OK(t, j.Add(id, append(objects(400, 600, Present), objects(550, 650, Staged)...))) // some twice
	want := Counts{Known: 650, Present: 150, Staged: 100}
	for range 2 {
		if c := session(t, j, id).Counts; c != want || c.Missing() != 400 {
			t.Errorf("counts are %+v, want %+v", c, want)
		}
		mustClose(t, j)
		j = open(t, j.path)
	}
	got, err := j.Statuses(id, []ostree.Name{object(0), object(400), object(550), object(649), object(650), {Checksum: object(0).Checksum, Type: ostree.DirTree}})
	must.OK(t, err)
	if want := []Status{Missing, Present, Staged, Staged, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("statuses are %v, want %v", got, want)
	}
	if err := j.Add(id, []Entry{{file, 0}}); err == nil {
		t.Error("status 0 was added")
	}
	move(t, j, id, Verifying)
	wantStateError(t, j.Add(id, objects(0, 1, Missing)), Verifying, "")
}

// A name that is not in the set fails the whole record; nothing of it stays.
func TestRecordIsWhole(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	must.OK(t, j.Add(id, objects(0, 5, Missing)))
	err := j.Record(id, upload("pack-1", 0, 6))
	if err == nil || !strings.Contains(err.Error(), object(5).String()) || !strings.Contains(err.Error(), "pack-1") {
		t.Errorf("error is %v", err)
	}
	if c := session(t, j, id).Counts; c != (Counts{Known: 5}) {
		t.Errorf("counts are %+v", c)
	}
}

func TestRecordCountsBytesOnce(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	must.OK(t, j.Add(id, objects(0, 10, Missing)))
	want := Counts{Known: 10, Staged: 10, Received: 120, StagedBytes: 100, Inflated: 200}
	for range 3 {
		must.OK(t, j.Record(id, upload("pack-1", 0, 10)))
		if c := session(t, j, id).Counts; c != want {
			t.Errorf("counts are %+v, want %+v", c, want)
		}
		mustClose(t, j)
		j = open(t, j.path)
	}
	// The same objects in another pack: received and inflated again, staged no more.
	must.OK(t, j.Record(id, upload("pack-2", 0, 10)))
	want.Received, want.Inflated = 240, 400
	if c := session(t, j, id).Counts; c != want {
		t.Errorf("counts are %+v, want %+v", c, want)
	}
}

func TestForgetUpload(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	must.OK(t, j.Add(id, objects(1, 2, Missing)))
	bad := Upload{Name: file.String(), Size: 7, Objects: []Result{{Name: file, Size: 7, Inflated: 9, Reason: "cut off"}}}
	must.OK(t, j.ForgetUpload(id, bad.Name))
	must.OK(t, j.Record(id, bad))
	must.OK(t, j.Record(id, bad))
	must.OK(t, j.ForgetUpload(id, bad.Name))
	must.OK(t, j.Record(id, bad))
	if c, want := session(t, j, id).Counts, (Counts{Known: 1, Rejected: 1, Received: 14, Inflated: 18}); c != want {
		t.Errorf("counts are %+v, want %+v", c, want)
	}
	move(t, j, id, Aborted)
	must.OK(t, j.Release(id))
	must.OK(t, j.ForgetUpload(id, bad.Name))
}

func TestProblems(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	must.OK(t, j.Add(id, objects(0, 3, Missing)))
	pack := Upload{Name: "pack", Objects: []Result{{Name: object(0), Reason: "size says 10, content has 12 bytes"}, {Name: object(1)}}}
	must.OK(t, j.Record(id, pack))
	want := []wire.ObjectProblem{{Object: object(0).String(), Code: wire.BadObjects, Reason: "size says 10, content has 12 bytes"}}
	if got := session(t, j, id).Problems; !reflect.DeepEqual(got, want) {
		t.Errorf("problems are %v, want %v", got, want)
	}
	move(t, j, id, Verifying)
	missing := wire.ObjectProblem{Object: object(9).String(), Code: wire.MissingObjects, Reason: "not sent"}
	must.OK(t, j.Withdraw(id, []wire.ObjectProblem{missing}, []ostree.Name{object(9), object(1)}))
	if c, want := session(t, j, id).Counts, (Counts{Known: 4, Rejected: 1}); c != want {
		t.Errorf("counts are %+v, want %+v", c, want)
	}
	if got := session(t, j, id).Problems; len(got) != 2 || !slices.Contains(got, missing) {
		t.Errorf("problems are %v", got)
	}
	// Good copies of both end their problems; also while verifying.
	must.OK(t, j.Record(id, Upload{Name: "pack-2", Objects: []Result{{Name: object(0)}, {Name: object(9)}}}))
	if got := session(t, j, id).Problems; got != nil {
		t.Errorf("problems are %v", got)
	}
	if err := j.Withdraw(id, []wire.ObjectProblem{{Object: "../x"}}, nil); err == nil {
		t.Error("a problem of no object was recorded")
	}
	move(t, j, id, Failed)
	wantStateError(t, j.Withdraw(id, nil, nil), Failed, "")
	wantStateError(t, j.Record(id, pack), Failed, "")
}

func TestCommitMetas(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	empty := ostree.Name{Checksum: object(2).Checksum, Type: ostree.CommitMeta}
	withdrawn := ostree.Name{Checksum: object(3).Checksum, Type: ostree.CommitMeta}
	must.OK(t, j.Add(id, []Entry{{meta, Missing}, {empty, Missing}, {withdrawn, Missing}}))
	must.OK(t, j.Record(id, Upload{Name: "pack", Objects: []Result{
		{Name: meta, CommitMeta: []byte("old")}, {Name: empty}, {Name: withdrawn, CommitMeta: []byte("bad")},
	}}))
	must.OK(t, j.Record(id, Upload{Name: "pack-2", Objects: []Result{{Name: meta, CommitMeta: []byte("new")}}}))
	must.OK(t, j.Record(id, Upload{Name: "pack-3", Objects: []Result{{Name: meta, CommitMeta: []byte("bad"), Reason: "bad"}}}))
	must.OK(t, j.Withdraw(id, nil, []ostree.Name{withdrawn}))
	got, err := j.CommitMetas(id)
	must.OK(t, err)
	if want := map[ostree.Checksum][]byte{meta.Checksum: []byte("new"), empty.Checksum: {}}; !reflect.DeepEqual(got, want) {
		t.Errorf("commitmetas are %q, want %q", got, want)
	}
}

func TestEach(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	added := append(objects(0, 700, Missing), Entry{meta, Staged}, Entry{ostree.Name{Checksum: file.Checksum, Type: ostree.DirTree}, Present})
	must.OK(t, j.Add(id, added))
	var got []Entry
	must.OK(t, j.Each(id, func(n ostree.Name, s Status) error {
		got = append(got, Entry{n, s})
		return nil
	}))
	slices.SortFunc(added, func(a, b Entry) int {
		ka, kb := keyOf(a.Name), keyOf(b.Name)
		return slices.Compare(ka[:], kb[:])
	})
	if !slices.Equal(got, added) {
		t.Errorf("%d objects, want %d, or another order", len(got), len(added))
	}
	stop := errors.New("stop")
	if err := j.Each(id, func(ostree.Name, Status) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("error is %v", err)
	}
}

// An object is needed while any session that has it may still publish.
func TestNeeded(t *testing.T) {
	j := newJournal(t)
	needed := func(want bool) {
		t.Helper()
		if got, err := j.Needed(object(-1), file); err != nil || got[1] != want || got[0] {
			t.Errorf("needed is %t, %v, want %t", got, err, want)
		}
	}
	needed(false)
	a, b := create(t, j), create(t, j)
	must.OK(t, j.Add(a, []Entry{{file, Staged}}))
	must.OK(t, j.Add(b, append(objects(2, 300, Missing), Entry{file, Present})))
	needed(true)
	move(t, j, a, Aborted)
	needed(true)
	move(t, j, b, Verifying)
	needed(true)
	move(t, j, b, Publishing)
	needed(true)
	mustClose(t, j)
	j = open(t, j.path)
	needed(true)
	move(t, j, b, Published)
	needed(false)
}

func TestRelease(t *testing.T) {
	j := newJournal(t)
	id, other := create(t, j), create(t, j)
	for _, id := range []string{id, other} {
		must.OK(t, j.Add(id, append(objects(0, 2000, Missing), Entry{meta, Missing})))
		var up Upload
		for n := range 1500 {
			up.Objects = append(up.Objects, Result{Name: object(n), Reason: "bad"})
		}
		must.OK(t, j.Record(id, Upload{Name: "meta", Size: 5, Objects: append(up.Objects, Result{Name: meta, CommitMeta: []byte("m")})}))
	}
	before := session(t, j, id)
	if len(before.Problems) != wire.MaxProblems {
		t.Errorf("%d problems are listed", len(before.Problems))
	}
	wantStateError(t, j.Release(id), Open, "")
	move(t, j, id, Aborted)
	for range 2 {
		must.OK(t, j.Release(id))
		s := session(t, j, id)
		if s.Counts != before.Counts || !slices.Equal(s.Problems, before.Problems) {
			t.Errorf("counts are %+v, want %+v; or the problems differ", s.Counts, before.Counts)
		}
	}
	metas, err := j.CommitMetas(id)
	must.OK(t, err)
	must.OK(t, j.Each(id, func(n ostree.Name, _ Status) error { return fmt.Errorf("%s is still there", n) }))
	if statusOf(t, j, id, file) != 0 || len(metas) != 0 || len(j.indexes) != 1 {
		t.Errorf("left: commitmetas %v, %d indexes", metas, len(j.indexes))
	}
	if statusOf(t, j, other, file) != Rejected {
		t.Error("the other session lost its objects")
	}
}

func TestTrim(t *testing.T) {
	j := newJournal(t)
	now := time.Date(2026, 11, 23, 10, 0, 0, 0, time.UTC)
	j.now = func() time.Time { return now }
	oldOpen, oldAborted, released := create(t, j), create(t, j), create(t, j)
	for _, id := range []string{oldOpen, oldAborted, released} {
		must.OK(t, j.Add(id, objects(0, 300, Missing)))
	}
	ch := j.Changed(oldOpen)
	move(t, j, oldAborted, Aborted)
	move(t, j, released, Verifying, Failed)
	must.OK(t, j.Release(released))
	now = now.Add(time.Hour)
	cut := now
	young := create(t, j)
	move(t, j, young, Aborted)
	n, err := j.Trim(cut)
	if n != 2 || err != nil {
		t.Errorf("trimmed %d, %v", n, err)
	}
	list, err := j.Sessions(nil)
	must.OK(t, err)
	if len(list) != 2 || list[0].ID != young || list[1].ID != oldOpen || closed(ch) {
		t.Errorf("sessions left: %v", list)
	}
	if _, err := j.Session(released); !errors.Is(err, ErrNotFound) {
		t.Errorf("a trimmed session: %v", err)
	}
}

// A set takes objects within the bounds of its session and of its token: beyond them it
// stays as it was.
func TestFull(t *testing.T) {
	j := newJournal(t)
	first, second := create(t, j), create(t, j)
	must.OK(t, j.AddWithin(Most{Session: 10, Token: 15}, first, objects(0, 10, Missing)))
	for _, test := range []struct {
		id    string
		most  Most
		to    int
		would int64
		token bool
	}{
		{first, Most{Session: 10}, 11, 11, false},
		{second, Most{Session: 10, Token: 15}, 6, 16, true},
	} {
		err := j.AddWithin(test.most, test.id, objects(0, test.to, Missing))
		if e := new(FullError); !errors.As(err, &e) || e.Would != test.would || (e.Token != "") != test.token {
			t.Errorf("%+v: %v", test, err)
		}
	}
	must.OK(t, j.AddWithin(Most{Session: 5}, first, objects(0, 10, Present))) // nothing new
	must.OK(t, j.AddWithin(Most{Session: 10, Token: 15}, second, objects(0, 5, Missing)))
	move(t, j, first, Aborted)
	must.OK(t, j.AddWithin(Most{Token: 15}, second, objects(0, 15, Missing)))
	if session(t, j, first).Counts.Known != 10 || session(t, j, second).Counts.Known != 15 {
		t.Error("the counts are wrong")
	}
}

// Detached metadata is kept up to a bound, which what is taken back and what replaces
// another makes room in; what does not fit is rejected.
func TestFullOfCommitMetas(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	name := func(i int) ostree.Name {
		return ostree.Name{Checksum: object(i).Checksum, Type: ostree.CommitMeta}
	}
	const large = maxCommitMetas / 4
	send := func(i, size int) Status {
		t.Helper()
		must.OK(t, j.Add(id, []Entry{{name(i), Missing}}))
		up := fmt.Sprint("p", i, "-", size)
		must.OK(t, j.Record(id, Upload{Name: up, Size: int64(size), Objects: []Result{{Name: name(i), Size: int64(size), CommitMeta: make([]byte, size)}}}))
		return statusOf(t, j, id, name(i))
	}
	for i := range 4 {
		if got := send(i, large); got != Staged {
			t.Fatalf("number %d is %s", i, got)
		}
	}
	if got := send(4, 1); got != Rejected {
		t.Errorf("beyond the bound it is %s", got)
	}
	send(0, large-1)
	if got := send(5, 1); got != Staged {
		t.Errorf("in the place of another it is %s", got)
	}
	must.OK(t, j.Withdraw(id, nil, []ostree.Name{name(1)}))
	if got := send(6, large); got != Staged {
		t.Errorf("in the place of what was taken back it is %s", got)
	}
}

// The number of uploads that were recorded is known without counting them.
func TestRecorded(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	want := func(n int64) {
		t.Helper()
		if got, err := j.Recorded(id); got != n || err != nil {
			t.Errorf("%d are recorded, want %d (%v)", got, n, err)
		}
	}
	want(0)
	for _, name := range []string{"p", "q", "p"} {
		must.OK(t, j.Record(id, Upload{Name: name}))
	}
	want(2)
	must.OK(t, j.ForgetUpload(id, "p"))
	must.OK(t, j.ForgetUpload(id, "p"))
	want(1)
}

// A client can have any number of objects rejected: so many reasons are kept as a
// document lists, and the objects count all the same.
func TestRejectedAreBounded(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	const more = 100
	list := objects(0, wire.MaxProblems+more, Missing)
	must.OK(t, j.Add(id, list))
	var results []Result
	for _, e := range list {
		results = append(results, Result{Name: e.Name, Reason: "bad"})
	}
	must.OK(t, j.Record(id, Upload{Name: "p", Size: 1, Objects: results}))
	must.OK(t, j.Record(id, Upload{Name: "q", Size: 1, Objects: results[more:]}))
	kept, err := j.Problems(id, 2*wire.MaxProblems)
	must.OK(t, err)
	s, err := j.Session(id)
	must.OK(t, err)
	if len(kept) != wire.MaxProblems || s.Counts.Rejected != wire.MaxProblems+more {
		t.Errorf("%d reasons for %d objects", len(kept), s.Counts.Rejected)
	}
}

// Part gives the objects of a set in the order in which they came, piece by piece.
func TestPart(t *testing.T) {
	j := newJournal(t)
	id := create(t, j)
	all := slices.Concat(objects(50, 60, Present), objects(0, 300, Missing))
	must.OK(t, j.Add(id, all[:10]))
	must.OK(t, j.Add(id, all[10:]))
	var got []Entry
	for from := 0; ; from += 100 {
		part, err := j.Part(id, from, 100)
		must.OK(t, err)
		if got = append(got, part...); len(part) < 100 {
			break
		}
	}
	// Those that came twice keep their place, with the later status.
	for i := range all[:10] {
		all[i].Status = Missing
	}
	all = slices.Concat(all[:60], all[70:])
	if !slices.Equal(got, all) {
		t.Errorf("%d objects, want %d", len(got), len(all))
	}
	move(t, j, id, Aborted)
	must.OK(t, j.Release(id))
	if part, err := j.Part(id, 0, 100); len(part) > 0 || err != nil {
		t.Errorf("released: %d objects, %v", len(part), err)
	}
}
