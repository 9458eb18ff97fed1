// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// whoMoves is what becomes of each verb: the scopes of a token, the globs of its refs, what
// it does to which ref, the status of the answer that decides, and the state of the session
// and its error if one was opened. A ref {in} is one that os/a/** covers, {out} another;
// both name the second of four commits, of which three are in the repository, each the
// child of the one before. {new} is in os/a/, and there is no such ref.
const whoMoves = `
push            os/a/**   push {in}              201 published
push            os/a/**   push {new}             201 published
push            os/a/**   push {out}             403
push            none      push {in}              403
push            all       push {out}             201 published
push            os/a/**   push-back {in}         201 failed not-fast-forward
push            os/a/**   force-back {in}        403
push,force      os/a/**   force-back {in}        201 published
push,force      os/a/**   force-back {out}       403
push,promote    os/a/**   force-back {in}        403
promote         os/a/**   push {in}              403
promote         os/a/**   force-back {in}        403
delete          os/a/**   push {in}              403
force           os/a/**   push {in}              403
sessions        all       push {in}              403
metrics         all       push {in}              403
admin           all       push {out}             201 published
admin           os/a/**   push {out}             403

push            os/a/**   hold {in}              201 held
hold            os/a/**   hold {in}              201 held
hold            os/a/**   hold {out}             403
hold            os/a/**   push {in}              403
hold            os/a/**   force-back {in}        403
hold,force      os/a/**   force-back {in}        403
hold            os/a/**   set {in}               403
hold            os/a/**   delete {in}            403
hold,push       os/a/**   push {in}              201 published
publish         all       hold {in}              403
admin           all       hold {in}              201 held

promote         os/a/**   set {in}               201 published
promote         os/a/**   set {new}              201 published
promote         os/a/**   set {out}              403
promote         os/b      set {out}              201 published
promote         none      set {in}               403
promote         all       set {out}              201 published
promote         os/a/**   set-both {in}          403
promote         all       set-both {in}          201 published
promote         os/a/**   set-back {in}          201 failed not-fast-forward
promote         os/a/**   roll-back {in}         201 published
promote         os/a/**   roll-back {out}        403
promote         os/a/**   set-nowhere {in}       422
promote         os/a/**   set-late {in}          201 failed ref-moved
promote         os/a/**   send {in}              422
promote         os/a/**   names {in}             422
push            os/a/**   set {in}               201 published
push            os/a/**   set {out}              403
push            os/a/**   roll-back {in}         403
push,force      os/a/**   roll-back {in}         201 published
push,promote    os/a/**   roll-back {in}         201 published
push            os/a/**   send {in}              422
force           os/a/**   set {in}               403
delete          os/a/**   set {in}               403
sessions        all       set {in}               403
metrics         all       set {in}               403
admin           all       set {out}              201 published
admin           all       roll-back {out}        201 published
admin           os/a/**   set {out}              403

delete          os/a/**   delete {in}            201 published
delete          os/a/**   delete {out}           403
delete          none      delete {in}            403
delete          all       delete {out}           201 published
delete          os/a/**   delete-late {in}       201 failed ref-moved
delete          os/a/**   delete-none {in}       400
delete          os/a/**   delete-names {in}      403
push            os/a/**   delete {in}            403
push,force      os/a/**   delete {in}            403
promote         os/a/**   delete {in}            403
sessions        all       delete {in}            403
metrics         all       delete {in}            403
admin           os/a/**   delete {in}            201 published
admin           os/a/**   delete {out}           403

promote         os/a/**   rename {in}            403
delete          os/a/**   rename {in}            403
push,delete     os/a/**   rename {in}            201 published
promote,delete  os/a/**   rename {in}            201 published
admin           os/a/**   rename {in}            201 published

push            os/a/**   log {in}               200
push            os/a/**   log {out}              404
promote         os/a/**   log {in}               200
promote         os/a/**   log {out}              200
delete          os/a/**   log {in}               200
delete          os/a/**   log {out}              404
sessions        none      log {in}               200
metrics         all       log {in}               404
force           all       log {in}               404
admin           os/a/**   log {out}              200
push            os/a/**   list {in}              200
push            os/a/**   list {out}             404
push            os/a/**   list-all {out}         404
promote         os/a/**   list {in}              200
promote         os/a/**   list {out}             404
promote         os/a/**   list-all {out}         200
delete          os/a/**   list {in}              200
sessions        all       list {in}              404
metrics         all       list-all {in}          404
`

// TestWhoMovesRefs pins who may do what to refs, against a server that does it: what is
// refused moves nothing.
func TestWhoMovesRefs(t *testing.T) {
	v := newVerbs(t)
	rows := 0
	for line := range strings.Lines(whoMoves) {
		f := strings.Fields(line)
		if len(f) == 0 {
			continue
		}
		rows++
		v.row(f[0], f[1], f[2], f[3], f[4:])
	}
	if rows < 80 {
		t.Errorf("only %d rows", rows)
	}
}

// verbs are what the table does.
type verbs struct {
	t       *testing.T
	s       *ts.Server
	build   string
	commits []string // of which the last is in the build repository alone
	tokens  map[string]string
	n       int

	in, out, fresh string // the refs of a row
}

func newVerbs(t *testing.T) *verbs {
	v := &verbs{t: t, s: ts.Start(t, "archive"), build: filepath.Join(t.TempDir(), "build"), tokens: map[string]string{}}
	v.s.Change(func(c *config.Config) { c.Limits.MaxSessions = 0 })
	old := ""
	for i := range 4 {
		v.commits = append(v.commits, ts.Commit(t, v.build, "main", fmt.Sprint(i), 3).String())
		if i < 3 {
			v.s.Client(v.s.Token).Push(v.build, wire.Ref{Ref: "main", Old: old, New: v.commits[i]})
			old = v.commits[i]
		}
	}
	return v
}

// row does one row of the table.
func (v *verbs) row(scopes, globs, verb, ref string, want []string) {
	v.t.Helper()
	v.n++
	v.in, v.out, v.fresh = fmt.Sprint("os/a/r", v.n), "os/b", fmt.Sprint("os/a/n", v.n)
	v.place(v.in)
	v.place(v.out)
	name := strings.NewReplacer("{in}", v.in, "{out}", v.out, "{new}", v.fresh).Replace(ref)
	before := v.refs()
	got := strings.Join(v.do(v.client(scopes, globs), verb, name), " ")
	if got != strings.Join(want, " ") {
		v.t.Errorf("%s of %s: %s %s: got %s, want %s", scopes, globs, verb, ref, got, strings.Join(want, " "))
	}
	if moved := v.refs() != before; moved != strings.Contains(got, "published") {
		v.t.Errorf("%s of %s: %s %s: %s, and refs moved: %t", scopes, globs, verb, ref, got, moved)
	}
}

// place puts a ref to the second commit, by hand.
func (v *verbs) place(ref string) {
	path := filepath.Join(v.s.Repo, "refs/heads", ref)
	must.OK(v.t, os.MkdirAll(filepath.Dir(path), 0o755))
	must.OK(v.t, os.WriteFile(path, []byte(v.commits[1]+"\n"), 0o644))
}

// refs are the refs of the row.
func (v *verbs) refs() string {
	return strings.Join([]string{v.s.Ref(v.in), v.s.Ref(v.out), v.s.Ref(v.fresh)}, " ")
}

// client is that of a token with scopes and refs.
func (v *verbs) client(scopes, globs string) *ts.Client {
	key := scopes + globs
	if v.tokens[key] == "" {
		o := token.Options{Name: fmt.Sprint("t", v.n), Scopes: strings.Split(scopes, ",")}
		switch globs {
		case "none":
			o.Refs = []string{}
		case "all":
		default:
			o.Refs = []string{globs}
		}
		v.tokens[key] = v.s.AddToken(o)
	}
	return v.s.Client(v.tokens[key])
}

// do does a verb, and returns the status that decides, and the outcome if there is one.
func (v *verbs) do(c *ts.Client, verb, name string) []string {
	v.t.Helper()
	at, nowhere := v.commits[1], strings.Repeat("7", 64)
	if name == v.fresh {
		at = ""
	}
	ref := func(old, new string) wire.OpenRequest {
		return wire.OpenRequest{Refs: []wire.Ref{{Ref: name, Old: old, New: new}}}
	}
	promote := func(o wire.OpenRequest) wire.OpenRequest { o.Promote = true; return o }
	force := func(o wire.OpenRequest) wire.OpenRequest { o.Force = true; return o }
	switch verb {
	case "push":
		return v.push(c, ref(at, v.commits[3]))
	case "hold":
		o := ref(at, v.commits[3])
		o.Hold = true
		return v.push(c, o)
	case "push-back":
		return v.session(c, ref(at, v.commits[0]))
	case "force-back":
		return v.session(c, force(ref(at, v.commits[0])))
	case "set":
		return v.session(c, promote(ref(at, v.commits[2])))
	case "set-both":
		both := promote(ref(at, v.commits[2]))
		both.Refs = append(both.Refs, wire.Ref{Ref: v.out, Old: v.commits[1], New: v.commits[2]})
		return v.session(c, both)
	case "set-back":
		return v.session(c, promote(ref(at, v.commits[0])))
	case "roll-back":
		return v.session(c, force(promote(ref(at, v.commits[0]))))
	case "set-nowhere":
		return v.session(c, promote(ref(at, nowhere)))
	case "set-late":
		return v.session(c, promote(ref(v.commits[0], v.commits[2])))
	case "send", "names":
		return v.send(c, promote(ref(at, v.commits[2])), verb == "send")
	case "delete":
		return v.session(c, ref(at, ""))
	case "delete-late":
		return v.session(c, ref(v.commits[0], ""))
	case "delete-none":
		return v.session(c, ref("", ""))
	case "delete-names":
		return v.send(c, ref(at, ""), false)
	case "rename":
		renamed := promote(ref(at, ""))
		renamed.Refs = append(renamed.Refs, wire.Ref{Ref: v.fresh, New: at})
		return v.session(c, renamed)
	case "log":
		v.movedOnce(name)
		return []string{strconv.Itoa(c.Do("GET", "/api/v1/refs/"+name+"/log", nil).Status)}
	case "list":
		return listed(c.Want(200, "GET", "/api/v1/refs?glob="+name, nil), name)
	case "list-all":
		return listed(c.Want(200, "GET", "/api/v1/refs?all=1", nil), name)
	}
	v.t.Fatalf("there is no verb %s", verb)
	return nil
}

// movedOnce is for a ref that has a log: the row expects no move of its own.
func (v *verbs) movedOnce(ref string) {
	c := v.s.Client(v.s.Admin)
	c.Promote(true, wire.Ref{Ref: ref, Old: v.commits[1], New: v.commits[2]})
	c.Promote(true, wire.Ref{Ref: ref, Old: v.commits[2], New: v.commits[1]})
}

func listed(a ts.Answer, name string) []string {
	if strings.Contains(string(a.Body), `"`+name+`"`) {
		return []string{"200"}
	}
	return []string{"404"}
}

// open opens a session, or returns the status of the refusal.
func (v *verbs) open(c *ts.Client, o wire.OpenRequest) (id string, refused []string) {
	a := c.TryOpen(o)
	if a.Status != 201 {
		return "", []string{strconv.Itoa(a.Status)}
	}
	return strings.TrimPrefix(a.Header.Get("Location"), "sessions/"), nil
}

// session opens a session and finalizes it.
func (v *verbs) session(c *ts.Client, o wire.OpenRequest) []string {
	id, refused := v.open(c, o)
	if refused != nil {
		return refused
	}
	return outcome(c.Finalize(id))
}

func outcome(s wire.Session) []string {
	if s.Error == "" {
		return []string{"201", s.State}
	}
	return []string{"201", s.State, s.Error}
}

// push opens a session, brings what its commit needs, and finalizes it.
func (v *verbs) push(c *ts.Client, o wire.OpenRequest) []string {
	id, refused := v.open(c, o)
	if refused != nil {
		return refused
	}
	objects := ts.Objects(v.t, v.build, ts.Sum(v.t, v.commits[3]), ts.Sum(v.t, v.commits[2]))
	if lacking := c.Negotiate(id, objects...); len(lacking) > 0 {
		c.Upload(id, "all", ts.Pack(v.t, v.build, lacking...))
	}
	return outcome(c.Finalize(id))
}

// send opens a session that takes no objects, and names or sends one.
func (v *verbs) send(c *ts.Client, o wire.OpenRequest, upload bool) []string {
	id, refused := v.open(c, o)
	if refused != nil {
		return refused
	}
	defer c.Want(200, "DELETE", "/api/v1/sessions/"+id, nil)
	a := c.Do("POST", "/api/v1/sessions/"+id+"/objects", []byte(v.commits[3]+".commit\n"), "Content-Type", "text/plain")
	if upload {
		a = c.Create(10, ts.Metadata("session", id, "pack", "p"))
	}
	return []string{strconv.Itoa(a.Status)}
}
