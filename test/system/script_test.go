// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/lirios/ostree-upload/test/link"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// TestScripts runs testdata/script. Beside testscript's own commands there are:
//
//	server start NAME ARGS...  start `ostree-upload receive ARGS...`, which must
//	                           name the repository by --repo; the address goes to
//	                           $OSTREE_UPLOAD_ADDRESS
//	server start NAME of=REPO,REPO... ARGS...  the same, of these repositories of the
//	                           configuration
//	server reload NAME         SIGHUP
//	server stop NAME           end it by SIGTERM; it must exit with 0
//	server kill NAME           end it by SIGKILL
//	exits CODE COMMAND...      like exec, with this exit code
//	capture VAR FILE REGEXP    set VAR to the first group; FILE may be stdout
//	tree DIR N SEED            N files of random bytes, some 20 kB each
//	killed BYTES ARGS...       `ostree-upload ARGS...`, killed when the server has
//	                           got so many bytes
//	snapshot DIR               remember all that DIR holds
//	unchanged DIR              it still holds the same
//	awaits REGEXP COMMAND...   runs CMD until a line of its stdout matches
//
// At the end of a script every repository that was served passes ostree fsck.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Setup:               setUp,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"server":    positive(scriptServer),
			"exits":     positive(scriptExits),
			"awaits":    positive(scriptAwaits),
			"capture":   positive(scriptCapture),
			"tree":      positive(scriptTree),
			"killed":    positive(scriptKilled),
			"snapshot":  positive(scriptSnapshot),
			"unchanged": positive(scriptUnchanged),
		},
	})
}

// positive is a command that cannot be negated.
func positive(f func(*testscript.TestScript, []string) error) func(*testscript.TestScript, bool, []string) {
	return func(ts *testscript.TestScript, neg bool, args []string) {
		if neg {
			ts.Fatalf("! does not go with this command")
		}
		ts.Check(f(ts, args))
	}
}

// A scene is what a script has set up.
type scene struct {
	t         testing.TB
	servers   map[string]*site.Receiver
	repos     []string          // that were served
	snapshots map[string]string // by folder
}

type sceneKey struct{}

func sceneOf(ts *testscript.TestScript) *scene { return ts.Value(sceneKey{}).(*scene) }

func setUp(env *testscript.Env) error {
	t := env.T().(testing.TB)
	s := &scene{t: t, servers: map[string]*site.Receiver{}, snapshots: map[string]string{}}
	env.Values[sceneKey{}] = s
	env.Defer(func() {
		for name, r := range s.servers {
			r.Kill()
			t.Logf("log of server %s:\n%s", name, &r.Log)
			if races := site.DataRaces(r.Log.String()); races != "" {
				t.Errorf("server %s:\n%s", name, races)
			}
		}
		for _, repo := range s.repos {
			if out, err := site.Fsck(repo); err != nil {
				t.Errorf("ostree fsck of %s: %v\n%s", repo, err, out)
			}
		}
	})
	return nil
}

func scriptServer(ts *testscript.TestScript, args []string) error {
	s := sceneOf(ts)
	if len(args) < 2 {
		return errors.New("usage: server start|reload|stop|kill NAME [ARGS]")
	}
	act, name, r := args[0], args[1], s.servers[args[1]]
	if (act == "start") == (r != nil) {
		return fmt.Errorf("cannot %s server %s now", act, name)
	}
	switch act {
	case "start":
		return s.start(ts, name, args[2:])
	case "reload":
		return r.Process.Signal(syscall.SIGHUP)
	case "stop":
		delete(s.servers, name)
		return r.Stop()
	case "kill":
		delete(s.servers, name)
		r.Kill()
		return nil
	}
	return fmt.Errorf("server %s?", act)
}

func (s *scene) start(ts *testscript.TestScript, name string, args []string) error {
	var repos []string
	if at := slices.Index(args, "--repo"); at >= 0 && at+1 < len(args) {
		repos = args[at+1 : at+2]
	} else if several, is := strings.CutPrefix(args[0], "of="); is {
		repos, args = strings.Split(several, ","), args[1:]
	} else {
		return errors.New("server start needs --repo REPO or of=REPOS")
	}
	env := []string{"PATH=" + ts.Getenv("PATH"), "HOME=" + ts.Getenv("HOME"), "GORACE=" + ts.Getenv("GORACE")}
	r, err := site.StartReceiver(ts.MkAbs("."), env, args...)
	if err != nil {
		return err
	}
	s.servers[name] = r
	for _, repo := range repos {
		s.repos = append(s.repos, ts.MkAbs(repo))
	}
	ts.Setenv("OSTREE_UPLOAD_ADDRESS", "http://"+r.Address)
	return nil
}

func scriptExits(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: exits CODE COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		return err
	}
	if races := site.DataRaces(ts.ReadFile("stderr")); races != "" {
		return errors.New(races)
	}
	if got != want {
		return fmt.Errorf("exit code %d, want %d", got, want)
	}
	return nil
}

// scriptAwaits is for what a server does soon after it has answered.
func scriptAwaits(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: awaits REGEXP COMMAND...")
	}
	re, err := regexp.Compile("(?m)" + args[0])
	if err != nil {
		return err
	}
	must.Wait(sceneOf(ts).t, "stdout matches "+args[0], func() bool {
		err = ts.Exec(args[1], args[2:]...)
		return err != nil || re.MatchString(ts.ReadFile("stdout"))
	})
	return err
}

func scriptCapture(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: capture VAR FILE REGEXP")
	}
	re, err := regexp.Compile("(?m)" + args[2])
	if err != nil {
		return err
	}
	m := re.FindStringSubmatch(ts.ReadFile(args[1]))
	if len(m) != 2 {
		return fmt.Errorf("%s has no %s", args[1], args[2])
	}
	ts.Setenv(args[0], m[1])
	return nil
}

func scriptTree(ts *testscript.TestScript, args []string) error {
	if len(args) != 3 {
		return errors.New("usage: tree DIR N SEED")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	return site.SmallTree(ts.MkAbs(args[0]), n, args[2])
}

// scriptKilled runs a command through a link, and kills it.
func scriptKilled(ts *testscript.TestScript, args []string) error {
	if len(args) < 2 {
		return errors.New("usage: killed BYTES ARGS...")
	}
	n, err := strconv.ParseInt(args[0], 10, 64)
	if err != nil {
		return err
	}
	l, err := link.Listen(strings.TrimPrefix(ts.Getenv("OSTREE_UPLOAD_ADDRESS"), "http://"))
	if err != nil {
		return err
	}
	defer l.Close()
	cmd := exec.Command("ostree-upload", args[1:]...)
	cmd.Dir = ts.MkAbs(".")
	cmd.Env = []string{
		"PATH=" + ts.Getenv("PATH"), "GORACE=" + ts.Getenv("GORACE"), "OSTREE_UPLOAD_ADDRESS=http://" + l.Address(),
		"OSTREE_UPLOAD_TOKEN=" + ts.Getenv("OSTREE_UPLOAD_TOKEN"),
	}
	out, err := site.RunKilled(cmd, l, n)
	ts.Logf("%s", out)
	return err
}

func scriptSnapshot(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: snapshot DIR")
	}
	list, err := listing(ts.MkAbs(args[0]))
	sceneOf(ts).snapshots[args[0]] = list
	return err
}

func scriptUnchanged(ts *testscript.TestScript, args []string) error {
	if len(args) != 1 {
		return errors.New("usage: unchanged DIR")
	}
	before, ok := sceneOf(ts).snapshots[args[0]]
	if !ok {
		return fmt.Errorf("there is no snapshot of %s", args[0])
	}
	after, err := listing(ts.MkAbs(args[0]))
	if err != nil || after == before {
		return err
	}
	return fmt.Errorf("%s changed; before:\n%s\nafter:\n%s", args[0], before, after)
}

// listing names all that a folder holds, with mode and content. The server's
// state is left out: it is no part of the repository.
func listing(dir string) (string, error) {
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if e.Name() == ".ostree-upload" || e.Name() == ".ostree-upload.lock" {
			if e.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		content := ""
		if info.Mode().IsRegular() {
			b, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			content = fmt.Sprintf("%x", sha256.Sum256(b))
		}
		_, err = fmt.Fprintln(&list, strings.TrimPrefix(path, dir), info.Mode(), content)
		return err
	})
	return list.String(), err
}
