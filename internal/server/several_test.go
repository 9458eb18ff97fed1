// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/internal/token"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
)

// town is a server of the repositories os and apps, with tokens by their names.
type town struct {
	*eventLog
	t       *testing.T
	dir     string
	address string
	secrets map[string]string
}

// townTokens are bound to the repositories of their value; nil: to all.
var townTokens = map[string]token.Options{
	"all":       {},
	"os":        {Repositories: []string{"os"}},
	"apps":      {Repositories: []string{"apps"}},
	"both":      {Repositories: []string{"os", "apps"}},
	"nowhere":   {Repositories: []string{}},
	"admin":     {Scopes: []string{token.Admin}},
	"admin-os":  {Scopes: []string{token.Admin}, Repositories: []string{"os"}},
	"meter":     {Scopes: []string{token.Metrics}},
	"meter-os":  {Scopes: []string{token.Metrics}, Repositories: []string{"os"}},
	"refs-os":   {Repositories: []string{"os"}, Refs: []string{"x/**"}},
	"all-force": {Scopes: []string{token.Push, token.Force}},
}

func newTown(t *testing.T) *town {
	t.Helper()
	w := &town{eventLog: newEventLog(), t: t, dir: t.TempDir(), secrets: map[string]string{"none": "", "unknown": "somebody's"}}
	t.Cleanup(func() {
		if w.mu.Lock(); t.Failed() {
			t.Logf("the log has %v", w.events)
		}
		w.mu.Unlock()
	})
	c, err := config.Parse(fmt.Appendf(nil, "limits: {min-free-space: 0, max-sessions: 0}\nrepositories: {os: {repo: %s/os}, apps: {repo: %s/apps}}", w.dir, w.dir))
	must.OK(t, err)
	for name, o := range townTokens {
		o.Name = name
		plain, made := token.Generate(o)
		w.secrets[name], c.Tokens = plain, append(c.Tokens, made)
	}
	w.address, _ = w.serveAs(t, server.Options{Settings: func() *config.Config { return c }})
	return w
}

func (w *town) client(name string) *ts.Client { return ts.NewClient(w.t, w.address, w.secrets[name]) }

// townMay is the status of each request for each token. {os} and {apps} are sessions of
// token all in these repositories.
const townMay = `
                                none unknown | all os  apps both nowhere admin admin-os meter meter-os refs-os all-force
GET /healthz                     200  200      200 200 200  200  200     200   200      200   200      200     200
GET /os/healthz                  200  200      200 200 200  200  200     200   200      200   200      200     200
GET /apps/healthz                200  200      200 200 200  200  200     200   200      200   200      200     200
GET /none/healthz                401  401      404 404 404  404  404     404   404      404   404      404     404
GET /metrics                     401  401      403 403 403  403  403     200   403      200   403      403     403
GET /os/metrics                  401  401      403 403 403  403  403     200   200      200   200      403     403
GET /apps/metrics                401  401      403 403 403  403  403     200   403      200   403      403     403
GET /                            401  401      404 404 404  404  404     404   404      404   404      404     404
POST /healthz                    401  401      405 405 405  405  405     405   405      405   405      405     405
GET /api/v1/info                 401  401      404 404 404  404  404     404   404      404   404      404     404
POST /api/v1/sessions            401  401      404 404 404  404  404     404   404      404   404      404     404
GET /none/api/v1/info            401  401      404 404 404  404  404     404   404      404   404      404     404
GET /os                          401  401      404 404 403  404  403     404   404      404   404      404     404
GET /os/                         401  401      404 404 403  404  403     404   404      404   404      404     404
GET /os/../apps/api/v1/info      401  401      404 404 403  404  403     404   404      404   404      404     404
GET //os/api/v1/info             401  401      404 404 404  404  404     404   404      404   404      404     404
GET /os/os/api/v1/info           401  401      404 404 403  404  403     404   404      404   404      404     404
GET /os/api/v1/info              401  401      200 200 403  200  403     200   200      200   200      200     200
GET /apps/api/v1/info            401  401      200 403 200  200  403     200   403      200   403      403     200
GET /os/api/v1/refs              401  401      200 200 403  200  403     200   200      200   200      200     200
POST /os/api/v1/sessions         401  401      201 201 403  201  403     201   201      403   403      201     201
POST /apps/api/v1/sessions       401  401      201 403 201  201  403     201   403      403   403      403     201
GET /os/api/v1/sessions          401  401      200 200 403  200  403     200   200      200   200      200     200
GET /os/api/v1/sessions/{os}     401  401      200 404 403  404  403     200   200      404   404      404     404
GET /apps/api/v1/sessions/{os}   401  401      404 403 404  404  403     404   403      404   403      403     404
GET /apps/api/v1/sessions/{apps} 401  401      200 403 404  404  403     200   403      404   403      403     404
DELETE /apps/api/v1/sessions/{os} 401 401      404 403 404  404  403     404   403      404   403      403     404
POST /apps/api/v1/sessions/{os}/finalize 401 401 404 403 404 404 403     404   403      404   403      403     404
HEAD /os/files/{os}/p            401  401      200 404 403  404  403     403   403      404   404      404     404
HEAD /apps/files/{os}/p          401  401      404 403 404  404  403     404   403      404   403      403     404
HEAD /files/{os}/p               401  401      404 404 404  404  404     404   404      404   404      404     404
`

// TestWhoMayWhere pins the status of each request for each token, by the repositories
// that it is bound to.
func TestWhoMayWhere(t *testing.T) {
	w := newTown(t)
	open := func(c *ts.Client, repository string) string {
		answer := c.Want(201, "POST", "/"+repository+"/api/v1/sessions", []byte(someSession))
		var s wire.Session
		must.OK(t, json.Unmarshal(answer.Body, &s))
		c.Want(201, "POST", "/"+repository+"/files/", nil, "Tus-Resumable", "1.0.0", "Upload-Length", "10", "Upload-Metadata", ts.Metadata("session", s.ID, "pack", "p"))
		return s.ID
	}
	fill := strings.NewReplacer("{os}", open(w.client("all"), "os"), "{apps}", open(w.client("all"), "apps"))
	lines := strings.Split(strings.TrimSpace(townMay), "\n")
	names := strings.Fields(strings.Replace(lines[0], "|", "", 1))
	for _, line := range lines[1:] {
		cells := strings.Fields(line)
		for i, name := range names {
			want, err := strconv.Atoi(cells[2+i])
			must.OK(t, err)
			got := w.client(name).Do(cells[0], fill.Replace(cells[1]), []byte(body(cells[0])), "Tus-Resumable", "1.0.0")
			if got.Status != want {
				t.Errorf("%s %s by %s: status %d, want %d: %s", cells[0], cells[1], name, got.Status, want, got.Body)
			}
			if got.Status >= 400 && strings.HasPrefix(cells[1], "/os/") && bareRoute.Match(got.Body) {
				t.Errorf("%s %s by %s: an answer with a path that is none of repository os: %s", cells[0], cells[1], name, got.Body)
			}
		}
	}
}

// bareRoute is a path without the name of a repository.
var bareRoute = regexp.MustCompile(`[^\w]/(api/v1|files)/\w`)

// A problem names paths of a repository as whoever asked has them: with its name.
func TestPathsOfSeveral(t *testing.T) {
	w := newTown(t)
	var s wire.Session
	must.OK(t, json.Unmarshal(w.client("all").Want(201, "POST", "/os/api/v1/sessions", []byte(someSession)).Body, &s))
	object := strings.Repeat("2", 64) + ".filez"
	for _, c := range []struct{ method, path, says string }{
		{"GET", "/os", "there is nothing at /os"},
		{"GET", "/os/", "there is nothing at /os"},
		{"GET", "/os/none", "there is nothing at /os/none"},
		{"GET", "/os/api/v1/none", "there is nothing at /os/api/v1/none"},
		{"GET", "/os/api/../none", "there is nothing at /os/api/../none"},
		{"POST", "/os/api/v1/info", "/os/api/v1/info cannot be asked for with POST"},
		{"GET", "/os/api/v1/refs/x", "there is nothing at /os/api/v1/refs/x"},
		{"GET", "/os/api/v1/refs/x", "the log of a ref is at /os/api/v1/refs/REF/log, and /os/api/v1/refs?glob=REF is"},
		{"POST", "/os/files/", "send its name to /os/api/v1/sessions/" + s.ID + "/objects first"},
	} {
		got := w.client("all").Do(c.method, c.path, nil, "Tus-Resumable", "1.0.0", "Upload-Length", "1",
			"Upload-Metadata", ts.Metadata("session", s.ID, "object", object))
		if p := got.Problem(t); !strings.Contains(p.Detail+"; "+p.HintIs, c.says) {
			t.Errorf("%s %s: %s; %s", c.method, c.path, p.Detail, p.HintIs)
		}
	}
}

var someSession = `{"refs": [{"ref": "x/a", "new": "` + strings.Repeat("1", 64) + `"}]}`

func body(method string) string {
	if method == "POST" {
		return someSession
	}
	return ""
}

// isDown is what the log says then.
const isDown = "the repository cannot be used; it will be tried again, and at once by SIGHUP"

// What happens to one repository under a running server takes that one down, and not the
// others; /healthz, the metrics and the log say so, and SIGHUP tries again.
func TestOneFails(t *testing.T) {
	w := newTown(t)
	for _, name := range []string{"os", "apps"} {
		w.client("all").Want(201, "POST", "/"+name+"/api/v1/sessions", []byte(someSession))
	}
	journal := filepath.Join(w.dir, "os/.ostree-upload/journal.db")
	whole, err := os.ReadFile(journal)
	must.OK(t, err)
	must.OK(t, os.Truncate(journal, int64(os.Getpagesize())))
	w.client("all").Do("GET", "/os/api/v1/sessions", nil) // which meets the damage
	failed := w.wait(isDown)
	if failed["repository"] != "os" || !strings.Contains(fmt.Sprint(failed["err"]), "journal") {
		t.Errorf("the log says %v", failed)
	}
	// Who looks at the whole server leaves it alone, for the sake of apps.
	health := w.client("none").Want(200, "GET", "/healthz", nil)
	w.says(health, `"apps":"ok","os":"(failed|opening)"`)
	w.client("none").Want(503, "GET", "/os/healthz", nil)
	w.client("none").Want(200, "GET", "/apps/healthz", nil)
	down := w.client("all").Want(503, "POST", "/os/api/v1/sessions", []byte(someSession))
	if down.Header.Get("Retry-After") == "" || down.Problem(t).Code() != wire.Unavailable {
		t.Errorf("%v %s", down.Header, down.Body)
	}
	w.client("apps").Want(403, "GET", "/os/api/v1/info", nil)
	w.client("unknown").Want(401, "GET", "/os/api/v1/info", nil)
	w.client("all").Want(201, "POST", "/apps/api/v1/sessions", []byte(someSession))
	w.shows(`ostree_upload_healthy{repository="apps"} 1`, `ostree_upload_healthy{repository="os"} 0`, `ostree_upload_sessions{repository="apps",state="open"} 2`)

	must.OK(t, os.WriteFile(journal, whole, 0o600))
	must.OK(t, syscall.Kill(os.Getpid(), syscall.SIGHUP))
	must.Wait(t, "it is open again", func() bool { return w.client("none").Do("GET", "/os/healthz", nil).Status == 200 })
	w.client("all").Want(201, "POST", "/os/api/v1/sessions", []byte(someSession))
	w.shows(`ostree_upload_healthy{repository="os"} 1`, `ostree_upload_sessions{repository="os",state="open"} 2`, `ostree_upload_build_info{`)
}

// Where none of several repositories can be used, the server is not healthy, and says which.
func TestAllFail(t *testing.T) {
	w := newTown(t)
	for _, name := range []string{"os", "apps"} {
		w.client("none").Want(200, "GET", "/healthz", nil)
		must.OK(t, os.Truncate(filepath.Join(w.dir, name, ".ostree-upload/journal.db"), int64(os.Getpagesize())))
		w.client("all").Do("GET", "/"+name+"/api/v1/sessions", nil) // which meets the damage
		must.Wait(t, name+" is closed", func() bool {
			w.mu.Lock()
			defer w.mu.Unlock()
			return slices.ContainsFunc(w.all(isDown), func(e event) bool { return e["repository"] == name })
		})
	}
	health := w.client("none").Want(503, "GET", "/healthz", nil)
	if p := health.Problem(t); p.Detail != "repositories apps, os cannot be used now" {
		t.Errorf("/healthz says %s", health.Body)
	}
	w.says(health, `"apps":"(failed|opening)","os":"(failed|opening)"`)
}

// says sees that an answer has the states of the repositories. One that has failed is
// opened again now and then.
func (w *town) says(health ts.Answer, states string) {
	w.t.Helper()
	said := strings.Join(strings.Fields(string(health.Body)), "")
	if !regexp.MustCompile(`"repositories":\{` + states + `\}`).MatchString(said) {
		w.t.Errorf("/healthz says %s", health.Body)
	}
}

// shows sees that the metrics have lines.
func (w *town) shows(lines ...string) {
	w.t.Helper()
	got := string(w.client("meter").Want(200, "GET", "/metrics", nil).Body)
	for _, line := range lines {
		if !strings.Contains(got, "\n"+line) {
			w.t.Errorf("the metrics lack %s", line)
		}
	}
}

// Repositories that belong to several users cannot be served by one process that runs as
// root, and becomes their owner.
func TestSeveralOwners(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: others cannot give a folder away")
	}
	dir := t.TempDir()
	for i, name := range []string{"os", "apps"} {
		repo := filepath.Join(dir, name)
		must.OSTree(t, "init", "--repo="+repo, "--mode=archive")
		must.OK(t, os.Chown(repo, 1000+i, 1000+i))
	}
	c, err := config.Parse(fmt.Appendf(nil, "repositories: {os: {repo: %s/os}, apps: {repo: %s/apps}}", dir, dir))
	must.OK(t, err)
	err = server.Serve(t.Context(), server.Options{Address: "127.0.0.1:0", Settings: func() *config.Config { return c }, Log: ts.Logger(t)})
	if err == nil || err.Error() != "the repositories os and apps belong to users 1000 and 1001, and one process cannot serve both" {
		t.Errorf("it ends with %v", err)
	}
}

// Where a repository is that is configured and not served, the log says also if it is the
// only one and has no name.
func TestOtherPlace(t *testing.T) {
	var log bytes.Buffer
	text := "repo: /srv/one\n"
	now := server.NoteChanges(func() *config.Config {
		c, err := config.Parse([]byte(text))
		must.OK(t, err)
		return c
	}, slog.New(slog.NewTextHandler(&log, nil)))
	text = "repo: s3://releases/os\nstate: /srv/state\ns3: {endpoint: https://s3.example.org}\n"
	now()
	for _, place := range []string{`configured="[s3://releases/os, state /srv/state, s3 {https://s3.example.org false}]"`, `served="[/srv/one, state /srv/one/.ostree-upload]"`} {
		if !strings.Contains(log.String(), place) {
			t.Errorf("it does not say %s: %s", place, &log)
		}
	}
}
