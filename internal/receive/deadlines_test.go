// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"

	ts "github.com/lirios/ostree-upload/test/server"
)

// Whoever has no token is answered although the body that they declare never comes,
// and the connection is closed then.
func TestBodyThatNeverComes(t *testing.T) {
	s := ts.Start(t, "archive")
	for _, head := range []string{
		"POST /api/v1/sessions HTTP/1.1\r\nContent-Length: 1000",
		"POST /api/v1/sessions HTTP/1.1\r\nAuthorization: Bearer wrong\r\nTransfer-Encoding: chunked",
		"PATCH /files/k3xq7mpl2wbz5aen/p HTTP/1.1\r\nContent-Length: 1000",
		"GET /healthz HTTP/1.1\r\nContent-Length: 1000",
		"GET /healthz HTTP/1.1\r\nTransfer-Encoding: chunked",
		"DELETE /nothing HTTP/1.1\r\nContent-Length: 1",
	} {
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		must.OK(t, err)
		_, err = fmt.Fprintf(conn, "%s\r\nHost: x\r\n\r\n", head)
		must.OK(t, err)
		b, _ := io.ReadAll(conn) // ends only when the server closes
		want := "HTTP/1.1 401"
		if strings.Contains(head, "healthz") {
			want = "HTTP/1.1 200"
		}
		if !strings.HasPrefix(string(b), want) {
			t.Errorf("%q is answered %q", head, b)
		}
		must.OK(t, conn.Close())
	}
}

// Requests whose body comes slowly keep no other of their token from being answered:
// neither documents nor uploads, nor those that wait for a change.
func TestSlowBodies(t *testing.T) {
	s := ts.Start(t, "archive")
	c := s.Client(s.Token)
	id := c.Open(wire.Ref{Ref: "os/x", New: strings.Repeat("1", 64)}).ID
	var conns []net.Conn
	for i := range 64 {
		upload := fmt.Sprint("p", i)
		head := []string{
			"POST /api/v1/sessions/" + id + "/objects HTTP/1.1",
			"PATCH /files/" + id + "/" + upload + " HTTP/1.1\r\nUpload-Offset: 0\r\nTus-Resumable: 1.0.0\r\nContent-Type: application/offset+octet-stream",
			"POST /api/v1/objects HTTP/1.1",
		}[i%3]
		c.Create(100, ts.Metadata("session", id, "pack", upload))
		conn, err := net.Dial("tcp", strings.TrimPrefix(s.URL, "http://"))
		must.OK(t, err)
		defer conn.Close()
		conns = append(conns, conn)
		_, err = fmt.Fprintf(conn, "%s\r\nHost: x\r\nAuthorization: Bearer %s\r\nConnection: close\r\nContent-Length: 100\r\n\r\n0", head, s.Token)
		must.OK(t, err)
	}
	c.Want(200, "GET", "/api/v1/sessions/"+id, nil)
	for i, conn := range conns { // tusd does not like to be cut off while a test watches for races
		_, err := io.WriteString(conn, strings.Repeat("0", 99))
		must.OK(t, err)
		b, err := io.ReadAll(conn)
		must.OK(t, err)
		if want := []string{"400", "204", "400"}[i%3]; !strings.HasPrefix(string(b), "HTTP/1.1 "+want) {
			t.Errorf("request %d is answered %.200q", i, b)
		}
	}
}
