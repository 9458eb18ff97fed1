// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/client"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
	"github.com/lirios/ostree-upload/test/store"
)

// A fleet is receivers that share nothing but a bucket, behind a load balancer that sends
// all requests of a token to the same one as long as that lives.
type fleet struct {
	t         *testing.T
	store     *store.Gateway
	receivers []*member
	url       string // the load balancer's
}

// A member is one receiver: its folder, which has its state, and where it listens.
type member struct {
	*site.Receiver
	dir string
}

// socket is where it listens: always the same, unlike a port, also after a kill.
func (m *member) socket() string { return filepath.Join(m.dir, "socket") }

// Where the repository of a fleet is.
const (
	fleetBucket = "repo"
	fleetPrefix = "os"
)

// fleetToken is the token of a client, and admin sees all.
func fleetToken(name string) string { return "token-of-" + name }

const admin = "admin"

// newFleet starts n receivers of an empty repository. They know a token for each name,
// which may push refs of os/**.
func newFleet(t *testing.T, n int, names []string) *fleet {
	t.Helper()
	f := &fleet{t: t, store: store.New(t)}
	f.store.Bucket(t, fleetBucket)
	must.OK(t, f.store.KeepVersions(t.Context(), fleetBucket))
	text := fmt.Sprintf("repo: s3://%s/%s\nstate: state\ns3: {endpoint: %q, path-style: true}\nlimits: {min-free-space: 0}\ntokens:\n", fleetBucket, fleetPrefix, f.store.URL)
	for _, name := range append(names, admin) {
		scope := "push"
		if name == admin {
			scope = "admin"
		}
		text += fmt.Sprintf("  - {name: %s, sha256: %x, refs: [os/**], scopes: [%s]}\n", name, sha256.Sum256([]byte(fleetToken(name))), scope)
	}
	for i := range n {
		dir, err := os.MkdirTemp("", "fleet") // the path of a socket may have 107 bytes
		must.OK(t, err)
		t.Cleanup(func() { os.RemoveAll(dir) })
		m := &member{dir: dir}
		must.OK(t, os.WriteFile(filepath.Join(m.dir, "ostree-upload.yaml"), []byte(text), 0o600))
		f.start(m, []string{"--init"}[:max(0, 1-i)]...)
		f.receivers = append(f.receivers, m)
		t.Cleanup(func() { f.end(m) })
	}
	return f
}

// nginx puts nginx before a fleet of three as the page for operators says.
func (f *fleet) nginx() {
	f.t.Helper()
	text := f.onPage("nginx", "unix:")
	f.url = "http://" + site.StartNginx(f.t, strings.Replace(text, "listen 8080", "listen LISTEN", 1))
}

// haproxy puts HAProxy before a fleet of three as the page for operators says.
func (f *fleet) haproxy() {
	f.t.Helper()
	text := f.onPage("haproxy", "unix@")
	f.url = "http://" + site.StartHAProxy(f.t, strings.Replace(text, "bind :8080", "bind fd@3", 1))
}

// onPage is a configuration of docs/operating.md, with this fleet's receivers.
func (f *fleet) onPage(name, scheme string) string {
	f.t.Helper()
	page, err := os.ReadFile("../../docs/operating.md")
	must.OK(f.t, err)
	_, after, found := strings.Cut(string(page), "<!-- tested: "+name+" -->\n\n```text\n")
	text, _, ends := strings.Cut(after, "```\n")
	if !found || !ends {
		f.t.Fatalf("docs/operating.md has no configuration of %s that is tested", name)
	}
	for i, m := range f.receivers {
		address := fmt.Sprintf("10.0.0.%d:8080", i+1)
		if strings.Count(text, address) != 1 {
			f.t.Fatalf("%s is not there once:\n%s", address, text)
		}
		text = strings.Replace(text, address, scheme+m.socket(), 1)
	}
	return text
}

// start starts a member; ostree-upload.yaml says all but where it listens.
func (f *fleet) start(m *member, args ...string) {
	f.t.Helper()
	r, err := site.Launch(f.receive(m, args...))
	must.OK(f.t, err)
	m.Receiver = r
	must.OK(f.t, r.Await())
}

// receive is the command that start runs.
func (f *fleet) receive(m *member, args ...string) *exec.Cmd {
	cmd := exec.Command("ostree-upload", append([]string{"receive", "--address", "unix:" + m.socket()}, args...)...)
	cmd.Dir, cmd.Env = m.dir, append(os.Environ(), store.Env()...)
	return cmd
}

// end ends a member for good.
func (f *fleet) end(m *member) {
	m.Kill()
	f.checkRaces(m)
	if f.t.Failed() {
		f.t.Logf("the log of %s:\n%s", m.dir, &m.Log)
	}
}

func (f *fleet) checkRaces(m *member) {
	if races := site.DataRaces(m.Log.String()); races != "" {
		f.t.Errorf("a receiver:\n%s", races)
	}
}

// restart has a member killed, and starts it again.
func (f *fleet) restart(m *member) {
	f.t.Helper()
	m.Kill()
	f.checkRaces(m)
	f.start(m)
}

// command is ostree-upload as a client with a token runs it.
func (f *fleet) command(name string, args ...string) *exec.Cmd {
	cmd := exec.Command("ostree-upload", args...)
	cmd.Env = append(os.Environ(), "OSTREE_UPLOAD_ADDRESS="+f.url, "OSTREE_UPLOAD_TOKEN="+fleetToken(name))
	return cmd
}

// api is an admin's client of one member, past the load balancer.
func (f *fleet) api(m *member) *client.Client {
	f.t.Helper()
	c, err := client.New("unix:"+m.socket(), fleetToken(admin))
	must.OK(f.t, err)
	f.t.Cleanup(c.Close)
	return c
}

// settle waits until each member has come to an end with all that it had begun to
// publish.
func (f *fleet) settle() {
	f.t.Helper()
	for _, m := range f.receivers {
		api := f.api(m)
		for _, state := range []string{wire.Verifying, wire.Publishing} {
			must.Wait(f.t, "no session is "+state, func() bool {
				sessions, err := api.Sessions(f.t.Context(), state)
				must.OK(f.t, err)
				return len(sessions) == 0
			})
		}
	}
}

// refFile is the object of a ref.
func refFile(ref string) string { return fleetPrefix + "/refs/heads/" + ref }

// head is the commit that a ref in the bucket names, "" if there is none.
func (f *fleet) head(ref string) string {
	f.t.Helper()
	b, err := os.ReadFile(filepath.Join(f.store.Folder, fleetBucket, refFile(ref)))
	if os.IsNotExist(err) {
		return ""
	}
	must.OK(f.t, err)
	return strings.TrimSpace(string(b))
}

// moves are all that the members' logs say of a ref.
func (f *fleet) moves(ref string) (all []store.Move) {
	f.t.Helper()
	for _, m := range f.receivers {
		log, err := f.api(m).RefLog(f.t.Context(), ref, "", 1000)
		must.OK(f.t, err)
		for _, move := range log.Moves {
			all = append(all, store.Move{Who: m.dir, Old: move.Old, New: move.New})
		}
	}
	return all
}

// wantOneLine checks that a ref was moved step by step, each by compare and swap.
func (f *fleet) wantOneLine(ref string) {
	f.t.Helper()
	versions, err := f.store.Versions(f.t.Context(), fleetBucket, refFile(ref))
	must.OK(f.t, err)
	if err := store.OneLine(versions, f.moves(ref), f.head(ref)); err != nil {
		f.t.Errorf("the history of %s: %v", ref, err)
	}
}

// pull has plain ostree pull all refs over HTTP from the bucket, and checks each object.
func (f *fleet) pull(refs ...string) (repo string) {
	f.t.Helper()
	repo = filepath.Join(f.t.TempDir(), "pulled")
	must.OSTree(f.t, "init", "--repo="+repo, "--mode=archive")
	must.OSTree(f.t, "remote", "add", "--repo="+repo, "--no-gpg-verify", "bucket", f.store.URL+"/"+fleetBucket+"/"+fleetPrefix)
	must.OSTree(f.t, append([]string{"pull", "--mirror", "--depth=-1", "--repo=" + repo, "bucket"}, refs...)...)
	must.OSTree(f.t, "fsck", "--repo="+repo)
	return repo
}
