// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

const monitoring = "../../packaging/monitoring/"

// A scrape is what a server answers to GET /metrics.
type scrape string

// scraped gets the metrics at an address.
func scraped(t *testing.T, address string) scrape {
	t.Helper()
	res, err := http.Get("http://" + address + "/metrics")
	must.OK(t, err)
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	must.OK(t, err)
	if res.StatusCode != 200 {
		t.Fatalf("%s: %s", res.Status, b)
	}
	return scrape(b)
}

// families are the metrics whose names begin with one of these.
func (s scrape) families(prefixes ...string) (names []string) {
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\S+) `).FindAllStringSubmatch(string(s), -1) {
		if slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(m[1], p) }) {
			names = append(names, m[1])
		}
	}
	slices.Sort(names)
	return names
}

// value is that of a sample, as it stands there.
func (s scrape) value(sample string) string {
	for line := range strings.Lines(string(s)) {
		if v, is := strings.CutPrefix(line, sample+" "); is {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// labels are those that samples have of a metric, and of a histogram's parts.
func (s scrape) labels(metric string) map[string]bool {
	found := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^`+metric+`\{(.*)\} `).FindAllStringSubmatch(string(s), -1) {
		for _, l := range regexp.MustCompile(`(\w+)="`).FindAllStringSubmatch(m[1], -1) {
			found[l[1]] = true
		}
	}
	return found
}

// fullServer is a server of which each metric has a value: it has published and
// refused, speaks HTTPS, and cannot do a work that is to follow.
func fullServer(t *testing.T) (*site.Site, scrape) {
	t.Helper()
	s := site.At(t, t.TempDir())
	s.MakeToken("--expires", "10d")
	pair := filepath.Join(s.Dir, "pair.pem")
	must.Run(t, "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=localhost",
		"-addext", "subjectAltName=DNS:localhost", "-days", "30", "-keyout", pair+".key", "-out", pair)
	s.Configure("metrics-address: 127.0.0.1:0\nlog-format: json\ntls: {cert: " + pair + ", key: " + pair + ".key}")
	t.Cleanup(s.End)
	s.Start("--init")
	s.URL = strings.Replace(s.URL, "http://127.0.0.1", "https://localhost", 1)
	blocked := filepath.Join(s.Prod, "summary")
	must.OK(t, errors.Join(os.RemoveAll(blocked), os.MkdirAll(filepath.Join(blocked, "in-the-way"), 0o755)))
	t.Cleanup(func() { os.RemoveAll(blocked) })
	for _, ref := range []string{"os/a", "os/b"} {
		push := s.Command("push", "--repo", site.Small(t, ref, ref).Repo)
		push.Env = append(push.Env, "SSL_CERT_FILE="+pair)
		site.Finish(t, push).Must(t, 0)
	}
	unknown := s.Command("sessions", "--token", "none", "--address", s.URL)
	unknown.Env = append(unknown.Env, "SSL_CERT_FILE="+pair)
	site.Finish(t, unknown).Must(t, 3)
	at := regexp.MustCompile(`"metrics":"([^"]+)"`).FindStringSubmatch(s.Server.Log.String())
	if at == nil {
		t.Fatalf("the log does not tell where the metrics are:\n%s", &s.Server.Log)
	}
	var got scrape
	must.Wait(t, "both publishes are counted", func() bool { // which a client may know of before
		got = scraped(t, at[1])
		return got.value(`ostree_upload_publish_duration_seconds_count{outcome="published"}`) == "2"
	})
	return s, got
}

// onceThereWasOne are the metrics that begin with the first error of tus, and with the
// first request to an object store.
var onceThereWasOne = []string{"tusd_errors_total", "ostree_upload_store_requests_total"}

// What the docs, the dashboard and the alert rules name is what a server exports.
func TestMetrics(t *testing.T) {
	t.Parallel()
	_, got := fullServer(t)
	exported := got.families("ostree_upload_", "tusd_")

	page, err := os.ReadFile("../../docs/operating.md")
	must.OK(t, err)
	_, table, _ := strings.Cut(string(page), "| metric | labels | what |\n")
	table, _, _ = strings.Cut(table, "\n\n")
	documented := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(\\w+)` \\| (.*?) ?\\|").FindAllStringSubmatch(table, -1) {
		documented[row[1]] = row[2]
	}
	for _, metric := range onceThereWasOne {
		if !slices.Contains(exported, metric) {
			exported = append(exported, metric)
		}
	}
	slices.Sort(exported)
	if want := slices.Sorted(maps.Keys(documented)); !slices.Equal(want, exported) {
		t.Errorf("docs/operating.md lists\n%v, and a server exports\n%v", want, exported)
	}
	for metric, labels := range documented {
		want := map[string]bool{}
		for _, l := range strings.Fields(strings.ReplaceAll(labels, "`", "")) {
			want[l] = true
		}
		have := got.labels(metric + "(?:_count)?")
		if !slices.Contains(onceThereWasOne, metric) && !maps.Equal(want, have) {
			t.Errorf("%s has the labels %v, and docs/operating.md says %v", metric, have, want)
		}
	}

	for sample, want := range map[string]string{
		`ostree_upload_healthy`:                                                       "1",
		`ostree_upload_sessions{state="published"}`:                                   "2",
		`ostree_upload_sessions{state="expired"}`:                                     "0",
		`ostree_upload_publish_duration_seconds_count{outcome="published"}`:           "2",
		`ostree_upload_publish_wait_seconds_count`:                                    "2",
		`ostree_upload_lock_wait_seconds_count{lock="shared"}`:                        "2",
		`ostree_upload_works_due{work="summary"}`:                                     "1",
		`ostree_upload_objects_rejected_total`:                                        "0",
		`ostree_upload_http_requests_total{code="201",route="POST /api/v1/sessions"}`: "2",
		`ostree_upload_http_requests_total{code="401",route="GET /api/v1/sessions"}`:  "1",
		`ostree_upload_disk_min_free_bytes`:                                           "1.073741824e+09",
	} {
		if v := got.value(sample); v != want {
			t.Errorf("%s is %q, want %s", sample, v, want)
		}
	}
	if a, b := got.value("ostree_upload_received_bytes_total"), got.value("tusd_bytes_received"); a != b || a == "0" {
		t.Errorf("%s bytes came, and %s by tusd's count", a, b)
	}
	lint(t, got)
	namesExist(t, got)
	t.Run("promtool", withPromtool)
}

// lint looks for names against Prometheus's conventions, but in tusd's.
func lint(t *testing.T, s scrape) {
	t.Helper()
	var own strings.Builder
	for line := range strings.Lines(string(s)) {
		if strings.Contains(line, "ostree_upload_") {
			own.WriteString(line)
		}
	}
	problems, err := promlint.New(strings.NewReader(own.String())).Lint()
	must.OK(t, err)
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
}

// expressions are all of the dashboard and of the rules.
func expressions(t *testing.T) (all []string) {
	t.Helper()
	for _, file := range []string{"dashboard.json", "alerts.yaml"} {
		b, err := os.ReadFile(monitoring + file)
		must.OK(t, err)
		var doc any
		must.OK(t, yaml.Unmarshal(b, &doc)) // JSON is YAML
		collect(doc, &all)
	}
	if len(all) < 40 {
		t.Fatalf("only %d expressions were found", len(all))
	}
	return all
}

// collect appends the values of all keys "expr".
func collect(doc any, to *[]string) {
	switch d := doc.(type) {
	case map[string]any:
		for key, v := range d {
			if text, is := v.(string); is && key == "expr" {
				*to = append(*to, text)
			}
			collect(v, to)
		}
	case []any:
		for _, v := range d {
			collect(v, to)
		}
	}
}

// namesExist checks that what an expression names is exported, with the labels that it
// asks for.
func namesExist(t *testing.T, s scrape) {
	t.Helper()
	exported := s.families("ostree_upload_", "tusd_", "process_", "go_")
	always := map[string]bool{"job": true, "instance": true, "le": true}
	for _, e := range expressions(t) {
		for _, m := range regexp.MustCompile(`\b((?:ostree_upload|tusd|process|go)_\w+)(?:\{([^}]*)\})?`).FindAllStringSubmatch(e, -1) {
			name := m[1]
			if !slices.Contains(exported, name) {
				name = regexp.MustCompile(`_(bucket|count|sum)$`).ReplaceAllString(name, "")
			}
			if slices.Contains(onceThereWasOne, name) {
				continue
			}
			if !slices.Contains(exported, name) {
				t.Errorf("%s is no metric of the server, in %s", name, e)
			}
			have := s.labels(m[1])
			for _, l := range regexp.MustCompile(`(\w+)\s*[=!]`).FindAllStringSubmatch(m[2], -1) {
				if !have[l[1]] && !always[l[1]] {
					t.Errorf("%s has no label %s, in %s", m[1], l[1], e)
				}
			}
		}
	}
}

// withPromtool lets promtool check the rules, their tests, and the expressions of the
// dashboard.
func withPromtool(t *testing.T) {
	promtool, err := exec.LookPath("promtool")
	if err != nil {
		if promtool, err = filepath.Abs("../../bin/promtool"); err == nil {
			_, err = os.Stat(promtool)
		}
	}
	if err != nil {
		t.Skip("promtool is not there: hack/promtool.sh bin gets it")
	}
	type rule struct{ Record, Expr string }
	var rules []rule
	for i, e := range expressions(t) {
		rules = append(rules, rule{fmt.Sprint("r:", i), strings.ReplaceAll(e, "$__rate_interval", "5m")})
	}
	b, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "all", "rules": rules}}})
	must.OK(t, err)
	all := filepath.Join(t.TempDir(), "all.yaml")
	must.OK(t, os.WriteFile(all, b, 0o644))
	for _, args := range [][]string{{"check", "rules", "alerts.yaml", all}, {"test", "rules", "alerts_test.yaml"}} {
		cmd := exec.Command(promtool, args...)
		cmd.Dir = monitoring
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
}

// Each alert has a test and a row in the docs, and the dashboard is one that Grafana
// takes.
func TestMonitoringFiles(t *testing.T) {
	t.Parallel()
	read := func(path string) string {
		b, err := os.ReadFile(path)
		must.OK(t, err)
		return string(b)
	}
	rules, tests, page := read(monitoring+"alerts.yaml"), read(monitoring+"alerts_test.yaml"), read("../../docs/operating.md")
	var alerts []string
	for _, m := range regexp.MustCompile(`(?m)- alert: (\w+)$`).FindAllStringSubmatch(rules, -1) {
		alerts = append(alerts, m[1])
		if !regexp.MustCompile(`alertname: ` + m[1] + `\n\s+eval_time: \S+\n\s+exp_alerts:`).MatchString(tests) {
			t.Errorf("alerts_test.yaml does not see %s fire", m[1])
		}
	}
	var documented []string
	for _, m := range regexp.MustCompile("(?m)^\\| `(OstreeUpload\\w+)` \\|").FindAllStringSubmatch(page, -1) {
		documented = append(documented, m[1])
	}
	if !slices.Equal(alerts, documented) {
		t.Errorf("the rules are %v, and docs/operating.md has %v", alerts, documented)
	}

	var board struct {
		Title, UID    string
		SchemaVersion int
		Panels        []struct {
			ID      int
			Type    string
			Title   string
			GridPos struct{ H, W, X, Y int }
			Targets []struct{ Expr string }
		}
	}
	must.OK(t, json.Unmarshal([]byte(read(monitoring+"dashboard.json")), &board))
	if board.Title == "" || board.UID == "" || board.SchemaVersion == 0 || len(board.Panels) < 20 {
		t.Errorf("%+v", board)
	}
	seen := map[int]bool{}
	for _, p := range board.Panels {
		if seen[p.ID] || p.Title == "" || p.GridPos.H == 0 || p.GridPos.X+p.GridPos.W > 24 || (p.Type == "row") != (len(p.Targets) == 0) {
			t.Errorf("panel %+v", p)
		}
		seen[p.ID] = true
	}
}

// A server whose repository is in a bucket counts its requests to the store, with the
// labels that the docs, the dashboard and the alert rules name.
func TestStoreMetrics(t *testing.T) {
	t.Parallel()
	s := site.At(t, t.TempDir())
	s.MakeToken()
	s.InBucket()
	s.Configure("metrics-address: 127.0.0.1:0\nlog-format: json")
	t.Cleanup(s.End)
	s.Start("--init")
	s.Push(site.Small(t, "os/a", "a"))
	at := regexp.MustCompile(`"metrics":"([^"]+)"`).FindStringSubmatch(s.Server.Log.String())
	if at == nil {
		t.Fatalf("the log does not tell where the metrics are:\n%s", &s.Server.Log)
	}
	got := scraped(t, at[1])
	const metric = "ostree_upload_store_requests_total"
	if labels := got.labels(metric); !maps.Equal(labels, map[string]bool{"request": true, "outcome": true}) {
		t.Errorf("it has the labels %v", labels)
	}
	if n, err := strconv.Atoi(got.value(metric + `{outcome="ok",request="PutObject"}`)); err != nil || n < 100 {
		t.Errorf("%d objects were written, %v", n, err)
	}
	if n := got.value(metric + `{outcome="failed",request="PutObject"}`); n != "0" {
		t.Errorf("before the first failure it is %q", n)
	}
	if got.value(`ostree_upload_disk_free_bytes{folder="state"}`) == "" || strings.Contains(string(got), `folder="repository"`) {
		t.Error("there is to be the state folder's disk alone")
	}
	lint(t, got)
}
