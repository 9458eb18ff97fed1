// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package system

import (
	"fmt"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/test/site"
)

// A server of HTTPS is asked for its health whatever the name in its certificate, and
// one that wants a client certificate with that.
func TestHealthOverHTTPS(t *testing.T) {
	t.Parallel()
	c, s := newSecured(t), site.At(t, t.TempDir())
	s.MakeToken()
	s.Configure(fmt.Sprintf("tls: {cert: %s, key: %s, client-ca: %s}", c.server.Cert, c.server.Key, c.File))
	t.Cleanup(s.End)
	s.Start("--init")
	flags := []string{"health", "--address", s.Server.Address}
	if e := s.Run(flags...).Must(t, 1); !strings.Contains(e.Stderr, "\nhint: the server wants a client certificate: give --client-cert") {
		t.Errorf("without a certificate it says %s", e.Stderr)
	}
	if e := s.Run(append(flags, "--client-cert", c.client.Cert, "--client-key", c.client.Key)...).Must(t, 0); e.Stdout != "ok\n" {
		t.Errorf("it says %q", e.Stdout)
	}
	if e := s.Run(append(flags, "--client-cert", "none.pem")...).Must(t, 1); !strings.Contains(e.Stderr, "read the client certificate: open none.pem") {
		t.Errorf("with a certificate that is not there it says %s", e.Stderr)
	}
}
