// SPDX-License-Identifier: AGPL-3.0-or-later

package receive_test

import (
	"bytes"
	"compress/gzip"
	"fmt"
	"strconv"
	"strings"
)

// A dice draws from bytes, so that the fuzzer decides; once they are used up it shows 0.
type dice struct{ left []byte }

func (d *dice) roll(sides int) int {
	if len(d.left) == 0 {
		return 0
	}
	n := int(d.left[0])
	d.left = d.left[1:]
	if sides > 256 && len(d.left) > 0 {
		n = n<<8 | int(d.left[0])
		d.left = d.left[1:]
	}
	return n % sides
}

func (d *dice) bytes(most int) []byte {
	n := min(d.roll(most+1), len(d.left))
	b := d.left[:n]
	d.left = d.left[n:]
	return b
}

func pick[T any](d *dice, list ...T) T { return list[d.roll(len(list))] }

// A shot is a request as it goes out, sound or not.
type shot struct {
	kind    string // what it was before it was spoilt
	method  string
	target  string
	header  [][2]string
	body    []byte
	chunked bool
	length  string // Content-Length, if it is not that of the body
}

func (s *shot) set(key, value string) {
	for i := range s.header {
		if strings.EqualFold(s.header[i][0], key) {
			s.header[i][1] = value
			return
		}
	}
	s.header = append(s.header, [2]string{key, value})
}

// wire is the text of the request. whole is false if the server may wait for more.
func (s *shot) wire() (text []byte, whole bool) {
	var b bytes.Buffer
	fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\n", s.method, s.target)
	for _, h := range s.header {
		fmt.Fprintf(&b, "%s: %s\r\n", h[0], h[1])
	}
	switch {
	case s.chunked:
		fmt.Fprintf(&b, "Transfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(s.body), s.body)
		return b.Bytes(), len(s.body) > 0
	case s.length != "":
		fmt.Fprintf(&b, "Content-Length: %s\r\n\r\n", s.length)
		b.Write(s.body)
		return b.Bytes(), false
	}
	fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n", len(s.body))
	b.Write(s.body)
	return b.Bytes(), true
}

// oddValues of headers and of parts of a query: numbers at their bounds and beyond,
// ranges, other forms of what is meant.
var oddValues = []string{
	"", "-1", "0", "1", "+1", "1.0", "1e3", "0x10", " 7", "٣",
	"9223372036854775807", "9223372036854775808", "18446744073709551616", "-9223372036854775808", strings.Repeat("9", 400),
	"bytes=0-", "bytes=5-1", "bytes 0-0/1", "application/json", "application/offset+octet-stream", "text/plain; charset=\xff",
	"gzip", "gzip, gzip", "br", "1.0.0", "0.2.2", "*", "../..", "%2e%2e%2f", "a b,c", "session", "session !!!,pack cA==",
	"PATCH", "DELETE", "HEAD", "GET", "CONNECT", strings.Repeat("x", 3000), "\xf0\x28\x8c\x28", "close", "keep-alive", "100-continue",
}

// oddHeaders are those that tus, HTTP or a proxy give a meaning.
var oddHeaders = []string{
	"Tus-Resumable", "Upload-Length", "Upload-Offset", "Upload-Metadata", "Upload-Defer-Length", "Upload-Concat",
	"Upload-Checksum", "Upload-Complete", "Upload-Draft-Interop-Version", "Upload-Expires", "X-HTTP-Method-Override",
	"Content-Type", "Content-Encoding", "Content-Range", "Range", "If-Match", "If-None-Match", "If-Modified-Since", "Expect",
	"Connection", "Upgrade", "TE", "Trailer", "Accept-Encoding", "Origin", "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto",
	"Forwarded", "X-Request-ID", "Cookie", "Host", "Authorization", "Ostree-Upload-Token",
}

var oddTargets = []string{
	"/", "*", "//", "/.", "/..", "/files", "/files/", "/files//", "/files/../files/", "/files/%2e%2e/%2e%2e/etc/passwd", "/files/..%2f..%2fetc%2fpasswd",
	"/api", "/api/v1", "/api/v1/", "/api/v1/sessions/", "/api/v1/commitmeta/", "/api/v2/info", "/healthz", "/healthz/", "/metrics", "/%00", "/%ff", "/%zz",
	"http://elsewhere/api/v1/info", "/api/v1/info?%zz=%", "/api/v1/info#x", "?", "/api/v1/sessions?limit=1&limit=2", "/api/v1/sessions?before=../x", "/api/v1/sessions/x?wait=1h&wait=x",
}

// spoil changes something of a request.
func (s *shot) spoil(d *dice, p *player) {
	switch d.roll(12) {
	case 0:
		s.method = pick(d, "GET", "HEAD", "POST", "PATCH", "DELETE", "OPTIONS", "PUT", "TRACE", "CONNECT", "PROPFIND", "get", "X", strings.Repeat("M", 300))
	case 1:
		s.target = pick(d, oddTargets...)
	case 2:
		s.target += pick(d, "/", "/..", "/x", "%2f", "?wait=", "?wait=1ns&", "?limit=", "%00", ".info", "%2e%2e", strings.Repeat("/a", 50)) + pick(d, oddValues...)
	case 3:
		s.target = "/" + strings.Map(printable, string(d.bytes(40)))
	case 4:
		if len(s.header) > 0 {
			s.header[d.roll(len(s.header))][1] = pick(d, oddValues...)
		}
	case 5:
		s.header = append(s.header, [2]string{pick(d, oddHeaders...), pick(d, oddValues...)})
	case 6:
		if len(s.header) > 0 {
			i := d.roll(len(s.header))
			s.header = append(s.header[:i], s.header[i+1:]...)
		}
	case 7:
		s.body = spoilBody(d, s.body)
	case 8:
		s.chunked = true
	case 9:
		s.length = pick(d, "-1", "x", strconv.Itoa(len(s.body)+1), strconv.Itoa(len(s.body)/2), "9223372036854775807", "99999999999999999999")
	case 10:
		s.header = append(s.header, [2]string{"X-HTTP-Method-Override", s.method})
		s.method = "POST"
	case 11:
		s.set("Authorization", "Bearer "+pick(d, p.tokens...))
	}
}

// printable keeps a request line one line of three words.
func printable(r rune) rune {
	if r <= ' ' || r == 0x7f {
		return 'x'
	}
	return r
}

func spoilBody(d *dice, b []byte) []byte {
	b = bytes.Clone(b)
	switch d.roll(6) {
	case 0:
		return d.bytes(60)
	case 1:
		return b[:len(b)/2]
	case 2:
		var zipped bytes.Buffer
		z := gzip.NewWriter(&zipped)
		z.Write(b)
		z.Close()
		return zipped.Bytes()
	case 3:
		return bytes.Repeat(append(b, 'x'), 1+d.roll(4))
	case 4:
		return make([]byte, d.roll(70_000))
	}
	for range 1 + d.roll(3) {
		if len(b) > 0 {
			b[d.roll(len(b))] ^= byte(1 + d.roll(255))
		}
	}
	return b
}
