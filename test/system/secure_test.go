// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/test/certs"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// secured has the files of a site's HTTPS in a folder that others may read.
type secured struct {
	*certs.Authority
	server, client certs.Files
}

func newSecured(t *testing.T) *secured {
	t.Helper()
	dir := t.TempDir()
	c := &secured{certs.New(t, filepath.Join(dir, "ca.pem")), certs.In(dir), certs.In(t.TempDir())}
	must.OK(t, os.Chmod(filepath.Dir(dir), 0o755))
	must.OK(t, os.Chmod(dir, 0o755))
	c.Write(t, c.server, "127.0.0.1", time.Now().Add(time.Hour))
	c.Write(t, c.client, "builder", time.Now().Add(time.Hour))
	return c
}

// tls are the flags of a server of HTTPS.
func (c *secured) tls() []string {
	return []string{"--tls-cert", c.server.Cert, "--tls-key", c.server.Key}
}

// A push over HTTPS to a server that wants a client certificate; one that cannot go on
// names the flags to go on with.
func TestPushWithClientCertificate(t *testing.T) {
	t.Parallel()
	c, s := newSecured(t), site.At(t, t.TempDir())
	s.MakeToken()
	t.Cleanup(s.End)
	s.Start(append(c.tls(), "--init", "--tls-client-ca", c.File)...)
	s.URL = "https://" + s.Server.Address
	b := site.Small(t, "os/x86_64/stable", "with a certificate")
	flags := []string{"--ca-file", c.File, "--client-cert", c.client.Cert, "--client-key", c.client.Key}

	e := s.Run("push", "--repo", b.Repo, "--ca-file", c.File).Must(t, 1)
	if !strings.Contains(e.Stderr, "certificate required") || !strings.Contains(e.Stderr, "\nhint: give the certificate and its key by --client-cert") {
		t.Errorf("without a certificate it says %s", e.Stderr)
	}
	s.Push(b, flags...)
	site.Published(t, b, s.Prod)

	next := site.Small(t, "os/x86_64/testing", "cut")
	defer site.LockRepository(t, s.Prod)()
	cmd := s.Command(append([]string{"push", "--repo", next.Repo}, flags...)...)
	wait := site.Background(t, cmd)
	must.Wait(t, "the push waits for the lock", func() bool { return strings.Contains(s.Server.Log.String(), "ref=os/x86_64/testing") })
	must.OK(t, cmd.Process.Signal(os.Interrupt))
	if e := wait().Must(t, 130); !strings.Contains(e.Stderr, strings.Join(flags, " ")) {
		t.Errorf("it says how to go on: %s", e.Stderr)
	}
}

// A certificate that is renewed is used also by a server that has become the owner of
// the repository, which is told at the start if it will not be able to read it.
func TestCertificateIsRenewedForOwner(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("needs root: it becomes another user")
	}
	c := newSecured(t)
	const unreadable = "a renewed certificate will need a restart"
	for _, f := range []string{c.server.Cert, c.server.Key} {
		must.OK(t, os.Chmod(f, 0o600))
	}
	s := ownedSite(t, c.tls()...)
	if log := s.Server.Log.String(); strings.Count(log, unreadable) != 2 {
		t.Errorf("the log says\n%s", log)
	}
	must.OK(t, s.Server.Stop())
	readable := func() {
		t.Helper()
		for _, f := range []string{c.server.Cert, c.server.Key} {
			must.OK(t, os.Chown(f, 0, foreignOwner))
			must.OK(t, os.Chmod(f, 0o640))
		}
	}
	readable()
	s.Start(c.tls()...)
	s.URL = "https://" + s.Server.Address
	must.OK(t, os.Chmod(c.server.Key, 0o600)) // of a pair that is not looked at any more
	c.Write(t, c.server, "127.0.0.1", time.Now().Add(time.Hour))
	s.Run("sessions", "--ca-file", c.File).Must(t, 0)
	readable()
	s.Run("sessions", "--ca-file", c.File).Must(t, 0)
	if log := s.Server.Log.String(); strings.Contains(log, unreadable) || strings.Count(log, "is not used, the last one stays") != 1 || strings.Count(log, "certificate read again") != 1 {
		t.Errorf("the log says\n%s", log)
	}
}
