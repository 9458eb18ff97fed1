// SPDX-License-Identifier: AGPL-3.0-or-later

package journal

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/lirios/ostree-upload/test/must"
)

// crashEnv holds the journal's path in the process that TestKill kills.
const crashEnv = "OSTREE_UPLOAD_TEST_JOURNAL"

const perStep = 50 // objects that a step adds; it stages half of them

func TestMain(m *testing.M) {
	if path := os.Getenv(crashEnv); path != "" {
		fmt.Fprintln(os.Stderr, workUntilKilled(path, os.Stdout))
		os.Exit(1)
	}
	code := m.Run()
	removeLarge()
	os.Exit(code)
}

// workUntilKilled goes on with the one session of a journal, and writes the
// number of each step after the step was recorded.
func workUntilKilled(path string, out io.Writer) error {
	j, err := OpenFile(path)
	if err != nil {
		return err
	}
	list, err := j.Sessions(nil)
	if err != nil {
		return err
	}
	s := list[0]
	if s.State == Verifying {
		if _, err := j.Move(s.ID, Open, nil); err != nil {
			return err
		}
	}
	for step := int(s.Counts.Known / perStep); ; step++ {
		if err := crashStep(j, s.ID, step); err != nil {
			return err
		}
		fmt.Fprintln(out, step)
	}
}

// crashStep makes four commits. The upload of the step before is recorded
// again first, as recovery would, in case the kill was between the two.
func crashStep(j *Journal, id string, step int) error {
	var redo error
	if step > 0 {
		redo = j.Record(id, crashUpload(step-1))
	}
	add := j.Add(id, objects(step*perStep, (step+1)*perStep, Missing))
	record := j.Record(id, crashUpload(step))
	_, verify := j.Move(id, Verifying, nil)
	_, reopen := j.Move(id, Open, func(s *Session) { s.Detail = fmt.Sprint(step) })
	return errors.Join(redo, add, record, verify, reopen)
}

func crashUpload(step int) Upload {
	return upload(fmt.Sprint("pack-", step), step*perStep, step*perStep+perStep/2)
}

// Killed at any moment, the journal opens, is consistent, and has every step that
// was recorded and at most part of one more.
func TestKill(t *testing.T) {
	path := filepath.Join(t.TempDir(), "journal.db")
	j := open(t, path)
	id := create(t, j)
	mustClose(t, j)
	for round := range 6 {
		done := killAfter(t, path, 3+round*2)
		j := open(t, path)
		s := session(t, j, id)
		begun := int(s.Counts.Known / perStep) // steps whose Add was recorded
		if begun != done+1 && begun != done+2 {
			t.Errorf("step %d was recorded, the journal knows the objects of %d steps", done, begun)
		}
		recorded := begun
		if s.Counts.Staged < s.Counts.Known/2 {
			recorded--
		}
		half := int64(recorded * perStep / 2)
		if recorded <= done || s.Counts.Staged != half || s.Counts.Received != 12*half || s.Counts.StagedBytes != 10*half {
			t.Errorf("step %d was recorded, counts are %+v", done, s.Counts)
		}
		mustClose(t, j)
	}
}

// killAfter lets another process work on a journal, kills it once it recorded
// some steps, and gives the number of the last step that it spoke of.
func killAfter(t *testing.T, path string, steps int) (last int) {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), crashEnv+"="+path)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	must.OK(t, err)
	must.OK(t, cmd.Start())
	lines := bufio.NewScanner(out)
	for n := 0; lines.Scan(); n++ {
		if _, err := fmt.Sscan(lines.Text(), &last); err != nil {
			t.Fatal(err)
		}
		if n == steps {
			must.OK(t, cmd.Process.Kill())
		}
	}
	if err := cmd.Wait(); cmd.ProcessState.Exited() {
		t.Fatalf("the process was not killed: %v", err)
	}
	return last
}
