// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/test/certs"
	"github.com/lirios/ostree-upload/test/must"
)

// A renewal is files of a certificate and how a program replaces them.
type renewal struct {
	t     *testing.T
	dir   string
	ca    *certs.Authority
	files certs.Files // that the server reads
}

// put issues a certificate for a name into files of a folder.
func (r *renewal) put(folder, name string) certs.Files {
	r.t.Helper()
	must.OK(r.t, os.MkdirAll(filepath.Join(r.dir, folder), 0o755))
	f := certs.In(filepath.Join(r.dir, folder))
	r.ca.Write(r.t, f, name, time.Now().Add(time.Hour))
	return f
}

// link makes or replaces a symbolic link, in one step.
func (r *renewal) link(to, name string) {
	r.t.Helper()
	at := filepath.Join(r.dir, name)
	must.OK(r.t, os.MkdirAll(filepath.Dir(at), 0o755))
	must.OK(r.t, os.Symlink(to, at+".new"))
	must.OK(r.t, os.Rename(at+".new", at))
}

// renewals are the ways of it: each puts the pair of a name where the server reads it,
// and halfway is called when one file is there, if there is such a moment.
var renewals = map[string]func(r *renewal, name string, halfway func()){
	"by rename, the certificate first": func(r *renewal, name string, halfway func()) {
		next := r.put("next", name)
		must.OK(r.t, os.Rename(next.Cert, r.files.Cert))
		halfway()
		must.OK(r.t, os.Rename(next.Key, r.files.Key))
	},
	"by rename, the key first": func(r *renewal, name string, halfway func()) {
		next := r.put("next", name)
		must.OK(r.t, os.Rename(next.Key, r.files.Key))
		halfway()
		must.OK(r.t, os.Rename(next.Cert, r.files.Cert))
	},
	"written over": func(r *renewal, name string, halfway func()) {
		next := r.put("next", name)
		for i, f := range [][2]string{{next.Cert, r.files.Cert}, {next.Key, r.files.Key}} {
			text, err := os.ReadFile(f[0])
			must.OK(r.t, err)
			must.OK(r.t, os.WriteFile(f[1], text, 0o600))
			if i == 0 {
				halfway()
			}
		}
	},
	"as certbot does, a link for each file": func(r *renewal, name string, halfway func()) {
		r.put("archive/"+name, name)
		r.link("../archive/"+name+"/cert.pem", "live/cert.pem")
		halfway()
		r.link("../archive/"+name+"/key.pem", "live/key.pem")
	},
	"as Kubernetes does, a link for both": func(r *renewal, name string, _ func()) {
		r.put("live/.."+name, name)
		r.link(".."+name, "live/..data")
		for _, file := range []string{"cert.pem", "key.pem"} {
			if _, err := os.Lstat(filepath.Join(r.dir, "live", file)); err != nil {
				r.link("..data/"+file, "live/"+file)
			}
		}
	},
}

// A renewed pair is used from the next handshake on, however its files are replaced,
// and as long as only one of them is there the last pair stays, which is logged once.
func TestCertificateIsReadAgain(t *testing.T) {
	for way, renew := range renewals {
		t.Run(way, func(t *testing.T) {
			dir := t.TempDir()
			r := &renewal{t: t, dir: dir, ca: certs.New(t, filepath.Join(dir, "ca.pem")), files: certs.In(filepath.Join(dir, "live"))}
			first := r.put("live", "first")
			for _, path := range []string{first.Cert, first.Key} { // file systems keep times by the tick
				must.OK(t, os.Chtimes(path, time.Time{}, time.Now().Add(-time.Minute)))
			}
			if strings.HasPrefix(way, "as ") {
				must.OK(t, os.RemoveAll(filepath.Join(dir, "live")))
				renew(r, "first", func() {})
			}
			var log strings.Builder
			c, err := loadCertificate(config.TLS{Cert: r.files.Cert, Key: r.files.Key}, slog.New(slog.NewTextHandler(&log, nil)))
			must.OK(t, err)
			if got := shown(t, c); got != "first" {
				t.Errorf("before: %s", got)
			}
			bad := 0
			renew(r, "second", func() {
				bad++
				if got := shown(t, c) + shown(t, c); got != "firstfirst" {
					t.Errorf("with half of a pair: %s", got)
				}
			})
			if got := shown(t, c); got != "second" || strings.Count(log.String(), "is not used") != bad || strings.Count(log.String(), "read again") != 1 {
				t.Errorf("with the whole pair: %s, log:\n%s", got, &log)
			}
		})
	}
}

// shown is the name in the certificate of the next handshake.
func shown(t *testing.T, c *certificate) string {
	t.Helper()
	got, err := c.get(nil)
	must.OK(t, err)
	return got.Certificates[0].Leaf.Subject.CommonName
}

// Files that are gone, or cannot be read, change nothing; without any the server does
// not start, and says which file it is.
func TestCertificateIsGone(t *testing.T) {
	dir := t.TempDir()
	ca, files := certs.New(t, filepath.Join(dir, "ca.pem")), certs.In(dir)
	ca.Write(t, files, "first", time.Now().Add(-time.Minute))
	var log strings.Builder
	of := config.TLS{Cert: files.Cert, Key: files.Key, ClientCA: ca.File}
	c, err := loadCertificate(of, slog.New(slog.NewTextHandler(&log, nil)))
	must.OK(t, err)
	if !strings.Contains(log.String(), "the certificate has expired") {
		t.Errorf("the log does not tell that it has expired:\n%s", &log)
	}
	for _, path := range []string{of.ClientCA, of.Key, of.Cert} {
		must.OK(t, os.Remove(path))
		c.reload()
		if got := shown(t, c); got != "first" {
			t.Errorf("without %s: %s", path, got)
		}
		if _, err := loadCertificate(of, slog.Default()); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("without %s: %v", path, err)
		}
	}
	must.OK(t, os.WriteFile(of.ClientCA, []byte("none\n"), 0o600))
	ca.Write(t, files, "first", time.Now().Add(time.Minute))
	if _, err := loadCertificate(of, slog.Default()); err == nil || !strings.Contains(err.Error(), of.ClientCA) {
		t.Errorf("without an authority: %v", err)
	}
}
