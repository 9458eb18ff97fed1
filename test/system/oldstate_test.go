// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"bufio"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/push"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
)

// What an earlier version left behind opens, resumes and publishes: `check` finds
// nothing wrong with it, the old sessions stay in the list, and a push that was
// cut sends only what had not arrived. The archives were made by hack/old-state.sh with
// the last version before this test, and with the last one before refs had a log: their
// journals are of the first and the second schema.
func TestStateOfEarlierVersion(t *testing.T) {
	t.Parallel()
	program := oldStateProgram(t)
	for _, archive := range []string{"state-before-house", "state-before-reflog"} {
		t.Run(archive, func(t *testing.T) {
			path, err := filepath.Abs(filepath.Join("testdata", archive+".tar.gz"))
			must.OK(t, err)
			old := oldState{dir: t.TempDir(), program: program}
			old.command(t, "tar", "--no-same-owner", "-xzf", path)
			for _, stop := range []string{"clean", "killed", "publishing"} {
				t.Run(stop, func(t *testing.T) {
					s := old
					s.dir = filepath.Join(old.dir, stop)
					s.goOn(t, stop == "publishing")
				})
			}
		})
	}
}

// An oldState is a folder of the archive, and the program that is to go on in it.
type oldState struct {
	dir, program string
	env          []string
}

// goOn starts a server on the folder, resumes the push and looks at what comes of
// it. A session that was publishing is published by the start alone.
func (s oldState) goOn(t *testing.T, publishing bool) {
	s.looksUnchanged(t)
	s.checkFindsNothing(t)
	stop := s.serve(t)
	id := strings.TrimSpace(s.read(t, "session"))

	var before wire.Session
	s.decode(t, &before, "sessions", "show", id, "--json")
	var result push.Result
	s.decode(t, &result, "push", "--repo", "build", "--resume", id, "--json")
	if want := wantSent(t, before, publishing); result.BytesSent > want {
		t.Errorf("%d bytes were sent, of at most %d that had not arrived", result.BytesSent, want)
	}
	s.wantHistory(t, id)
	s.wantLog(t, id)
	stop()

	s.command(t, "ostree", "fsck", "--repo=prod")
	s.checkFindsNothing(t)
	want := s.command(t, "ostree", "rev-parse", "--repo=build", "os/base")
	if got := s.command(t, "ostree", "rev-parse", "--repo=prod", "os/base"); got != want {
		t.Errorf("os/base is at %s, pushed was %s", got, want)
	}
}

// looksUnchanged reads the sessions before any server of this version has run, which
// leaves the folder to the earlier one as it was.
func (s oldState) looksUnchanged(t *testing.T) {
	t.Helper()
	state := filepath.Join(s.dir, "prod", ".ostree-upload")
	before := filesOf(t, state)
	var list wire.SessionList
	s.decode(t, &list, "sessions", "--state", state, "--json")
	var shown wire.Session
	s.decode(t, &shown, "sessions", "show", strings.TrimSpace(s.read(t, "session")), "--state", state, "--json")
	if len(list.Sessions) < 3 || shown.State == wire.Published || shown.Moves == "" || len(shown.Refs) == 0 {
		t.Errorf("%d sessions, and %+v", len(list.Sessions), shown)
	}
	if after := filesOf(t, state); after != before {
		t.Errorf("the state folder changed from\n%s\nto\n%s", before, after)
	}
}

// wantSent bounds what a push has to send that goes on with a session: all that is
// missing, less what has arrived of uploads. Of a pack, the object that was cut is
// sent again.
func wantSent(t *testing.T, s wire.Session, publishing bool) int64 {
	t.Helper()
	const small = 66_000 // a small object, with its frame in a pack
	if publishing {
		return 0
	}
	if s.State != "open" || s.Objects.Staged == 0 || len(s.Uploads) != 2 {
		t.Fatalf("the session is %s, with %d objects staged and %d uploads: the archive is not what it was",
			s.State, s.Objects.Staged, len(s.Uploads))
	}
	missing := (s.Objects.Missing - 1) * small // but the large one
	for _, u := range s.Uploads {
		if strings.HasSuffix(u.Name, ".filez") {
			missing += u.Size
		}
		missing -= u.Offset
	}
	return missing + small
}

// wantHistory looks for the sessions of the earlier version in the list.
func (s oldState) wantHistory(t *testing.T, resumed string) {
	t.Helper()
	var list wire.SessionList
	s.decode(t, &list, "sessions", "--json")
	states := map[string]string{} // by ref
	for _, session := range list.Sessions {
		if session.ID == resumed {
			states["resumed"] = session.State
		} else {
			states[session.Refs[0].Ref] = session.State
		}
	}
	for ref, want := range map[string]string{
		"resumed": "published", "os/base": "published", "os/aborted": "aborted", "os/expired": "expired",
	} {
		if states[ref] != want {
			t.Errorf("the session of %s is %q, want %q", ref, states[ref], want)
		}
	}
}

// wantLog looks for the move by the session that was resumed in the log of its ref.
func (s oldState) wantLog(t *testing.T, resumed string) {
	t.Helper()
	var log wire.RefLog
	s.decode(t, &log, "refs", "log", "os/base", "--json")
	if len(log.Moves) == 0 || log.Moves[0].Session != resumed || log.Moves[0].How != wire.Pushed {
		t.Errorf("the log of os/base has %+v", log.Moves)
	}
}

// checkFindsNothing runs check, which exits with 1 if it has a finding. Notes may be
// there: of what the next start repairs.
func (s oldState) checkFindsNothing(t *testing.T) {
	t.Helper()
	s.command(t, s.program, "check", "--repo", "prod")
}

// serve starts a server, and points the commands that follow at it. stop ends it
// by SIGTERM.
func (s *oldState) serve(t *testing.T) (stop func()) {
	t.Helper()
	cmd := exec.Command(s.program, "receive", "--repo", "prod", "--address", "127.0.0.1:0")
	cmd.Dir = s.dir
	stderr, err := cmd.StderrPipe()
	if err == nil {
		err = cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	// Whatever goes wrong, its end closes the pipe that this test reads.
	late := time.AfterFunc(must.Patience, func() { cmd.Process.Kill() })
	t.Cleanup(func() { late.Stop(); cmd.Process.Kill(); cmd.Wait() })

	listening := regexp.MustCompile(`\bmsg=receiving address=(\S+)`)
	var log strings.Builder
	lines := bufio.NewScanner(stderr)
	for lines.Scan() {
		log.WriteString(lines.Text() + "\n")
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			s.env = append(os.Environ(), "OSTREE_UPLOAD_ADDRESS=http://"+m[1],
				"OSTREE_UPLOAD_TOKEN="+strings.TrimSpace(s.read(t, "token")))
			break
		}
	}
	if s.env == nil {
		t.Fatalf("the server does not start:\n%s", &log)
	}
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		for lines.Scan() {
			log.WriteString(lines.Text() + "\n")
		}
	}()
	return func() {
		t.Helper()
		if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
			t.Fatal(err)
		}
		<-drained
		if err := cmd.Wait(); err != nil {
			t.Fatalf("the server ended with %v:\n%s", err, &log)
		}
	}
}

// decode runs the program and decodes the document that it prints.
func (s oldState) decode(t *testing.T, document any, args ...string) {
	t.Helper()
	out := s.command(t, s.program, args...)
	if err := json.Unmarshal([]byte(out), document); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// command runs a command in the folder, which has to succeed, and returns its
// stdout.
func (s oldState) command(t *testing.T, name string, args ...string) string {
	t.Helper()
	var stderr strings.Builder
	cmd := exec.CommandContext(t.Context(), name, args...)
	cmd.Dir, cmd.Env, cmd.Stderr = s.dir, s.env, &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s%s", filepath.Base(name), strings.Join(args, " "), err, out, &stderr)
	}
	return string(out)
}

func (s oldState) read(t *testing.T, name string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(s.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

// oldStateProgram is the installed program that OSTREE_UPLOAD names, or one that
// is built now.
func oldStateProgram(t *testing.T) string {
	t.Helper()
	if program := os.Getenv("OSTREE_UPLOAD"); program != "" {
		return program
	}
	program := filepath.Join(t.TempDir(), "ostree-upload")
	if out, err := exec.Command("go", "build", "-o", program, "../../cmd/ostree-upload").CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}
	return program
}
