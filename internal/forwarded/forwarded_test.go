// SPDX-License-Identifier: AGPL-3.0-or-later

package forwarded

import (
	"net/http"
	"net/netip"
	"strings"
	"testing"
)

func proxies(t testing.TB, names ...string) Proxies {
	t.Helper()
	p, err := ParseProxies(names)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// Who asks, by the peer and the headers. 10.0.0.0/8, 2001:db8:1::/48 and unix are
// trusted; header lines begin with x: for X-Forwarded-For and f: for Forwarded.
func TestClient(t *testing.T) {
	p := proxies(t, "10.0.0.0/8", "2001:db8:1::/48", "127.0.0.1", Unix)
	for _, c := range []struct {
		name, remote string
		lines        []string
		want         string
	}{
		{"direct", "203.0.113.7:1234", nil, "203.0.113.7"},
		{"spoofed", "203.0.113.7:1234", []string{"x:198.51.100.1", "f:for=198.51.100.1"}, "203.0.113.7"},
		{"mapped peer", "[::ffff:127.0.0.1]:1234", []string{"x:198.51.100.1"}, "198.51.100.1"},
		{"peer with a zone", "[fe80::1%eth0]:1234", nil, "fe80::1"},
		{"socket", "@", []string{"x:198.51.100.1"}, "198.51.100.1"},
		{"socket with a name", "/run/client.sock", nil, "unix"},
		{"user at a socket", "unix:1000", nil, "unix:1000"},
		{"proxy at a socket", "unix:33", []string{"x:198.51.100.1"}, "198.51.100.1"},
		{"one hop", "127.0.0.1:1", []string{"x:198.51.100.1"}, "198.51.100.1"},
		{"invented before it", "127.0.0.1:1", []string{"x:192.0.2.9, 198.51.100.1"}, "198.51.100.1"},
		{"two hops", "127.0.0.1:1", []string{"x:198.51.100.1, 10.1.2.3"}, "198.51.100.1"},
		{"two hops, invented before", "127.0.0.1:1", []string{"x:10.9.9.9, 198.51.100.1,10.1.2.3"}, "198.51.100.1"},
		{"two lines", "127.0.0.1:1", []string{"x:192.0.2.9", "x:198.51.100.1, 10.1.2.3"}, "198.51.100.1"},
		{"proxies alone", "127.0.0.1:1", []string{"x:10.0.0.5, 10.0.0.6"}, "10.0.0.5"},
		{"with a port", "127.0.0.1:1", []string{"x:198.51.100.1:4711"}, "198.51.100.1"},
		{"IPv6", "127.0.0.1:1", []string{"x:2001:db8::9"}, "2001:db8::9"},
		{"IPv6 in brackets", "127.0.0.1:1", []string{"x:[2001:db8::9]"}, "2001:db8::9"},
		{"IPv6 with a port", "127.0.0.1:1", []string{"x:[2001:db8::9]:4711"}, "2001:db8::9"},
		{"IPv6 proxy", "[2001:db8:1::5]:1", []string{"x:2001:db8:2::9, 2001:db8:1::6"}, "2001:db8:2::9"},
		{"mapped", "127.0.0.1:1", []string{"x:::ffff:198.51.100.1, ::ffff:10.0.0.1"}, "198.51.100.1"},
		{"nothing", "127.0.0.1:1", []string{"x:"}, "127.0.0.1"},
		{"words", "127.0.0.1:1", []string{"x:localhost"}, "127.0.0.1"},
		{"unknown", "127.0.0.1:1", []string{"x:198.51.100.1, unknown"}, "127.0.0.1"},
		{"words behind a proxy", "127.0.0.1:1", []string{"x:198.51.100.1, junk, 10.0.0.1"}, "10.0.0.1"},
		{"no brackets closed", "127.0.0.1:1", []string{"x:[2001:db8::9"}, "127.0.0.1"},
		{"IPv4 in brackets", "127.0.0.1:1", []string{"x:[198.51.100.1]"}, "127.0.0.1"},
		{"a bad port", "127.0.0.1:1", []string{"x:198.51.100.1:"}, "127.0.0.1"},
		{"a zone", "127.0.0.1:1", []string{"x:fe80::1%eth0"}, "127.0.0.1"},
		{"a line's end", "127.0.0.1:1", []string{"x:198.51.100.1\nmsg=forged"}, "127.0.0.1"},

		{"Forwarded", "127.0.0.1:1", []string{"f:for=198.51.100.1;proto=https;by=10.0.0.1"}, "198.51.100.1"},
		{"in upper case", "127.0.0.1:1", []string{"f:Proto=https;FOR=198.51.100.1"}, "198.51.100.1"},
		{"quoted IPv6", "127.0.0.1:1", []string{`f:for="[2001:db8::9]:4711"`}, "2001:db8::9"},
		{"IPv6 without quotes", "127.0.0.1:1", []string{`f:for=[2001:db8::9]:4711`}, "2001:db8::9"},
		{"a hidden port", "127.0.0.1:1", []string{`f:for="198.51.100.1:_http"`}, "198.51.100.1"},
		{"an escape", "127.0.0.1:1", []string{`f:for="198\.51.100.1"`}, "198.51.100.1"},
		{"a comma in quotes", "127.0.0.1:1", []string{`f:for=192.0.2.9, for=198.51.100.1;ext="a,b;for=1"`}, "198.51.100.1"},
		{"two elements", "127.0.0.1:1", []string{"f:for=192.0.2.9, for=198.51.100.1 ;proto=http, for=10.0.0.1"}, "198.51.100.1"},
		{"two lines of it", "127.0.0.1:1", []string{"f:for=198.51.100.1", "f:for=10.0.0.1"}, "198.51.100.1"},
		{"empty elements", "127.0.0.1:1", []string{"f:, ,for=198.51.100.1,;,"}, "198.51.100.1"},
		{"hidden", "127.0.0.1:1", []string{"f:for=198.51.100.1, for=_hidden"}, "127.0.0.1"},
		{"unknown there", "127.0.0.1:1", []string{"f:for=198.51.100.1, for=unknown"}, "127.0.0.1"},
		{"without for", "127.0.0.1:1", []string{"f:for=198.51.100.1, proto=https"}, "127.0.0.1"},
		{"no pairs", "127.0.0.1:1", []string{"f:198.51.100.1"}, "127.0.0.1"},
		{"for twice", "127.0.0.1:1", []string{"f:for=198.51.100.1;for=192.0.2.9"}, "127.0.0.1"},
		{"an open quote", "127.0.0.1:1", []string{`f:for="198.51.100.1`}, "127.0.0.1"},
		{"an open quote on another line", "127.0.0.1:1", []string{`f:for="192.0.2.9`, "f:for=198.51.100.1"}, "198.51.100.1"},
		{"words between", "127.0.0.1:1", []string{"f:for=198.51.100.1 proto=http"}, "127.0.0.1"},
		{"both", "127.0.0.1:1", []string{"f:for=192.0.2.9", "x:198.51.100.1"}, "198.51.100.1"},
	} {
		h := http.Header{}
		for _, line := range c.lines {
			name := map[byte]string{'x': "X-Forwarded-For", 'f': "Forwarded"}[line[0]]
			h.Add(name, line[2:])
		}
		if got := p.Client(Peer(c.remote), h); got != c.want {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}

func TestParseProxies(t *testing.T) {
	for name, trusted := range map[string]string{
		"127.0.0.1": "127.0.0.1:5", "10.1.2.3/8": "10.200.0.1:5", "::1": "[::1]:5", "2001:db8::/32": "[2001:db8:5::1]:5",
		"::ffff:127.0.0.1": "127.0.0.1:5", "unix": "@", "0.0.0.0/0": "203.0.113.1:5",
	} {
		if p := proxies(t, name); !p.Trusts(Peer(trusted)) || p.Trusts(Peer("[2001:db9::1]:5")) {
			t.Errorf("%s: %+v", name, p)
		}
	}
	for _, name := range []string{"", "localhost", "127.0.0.1:80", "10.0.0.0/33", "10.0.0", "fe80::1%eth0", "::ffff:10.0.0.0/104", "Unix", "10.0.0.0/8,127.0.0.1"} {
		if err := CheckProxy(name); err == nil || !strings.Contains(err.Error(), "10.0.0.0/8") {
			t.Errorf("%q: %v", name, err)
		}
	}
	if (Proxies{}).Trusts(Unix) || (Proxies{}).Trusts("127.0.0.1") {
		t.Error("somebody is trusted by default")
	}
}

// Whatever a header holds, the client is the peer or an address, and what the nearest
// proxy adds on a line of its own counts.
func FuzzClient(f *testing.F) {
	f.Add("198.51.100.1, 10.0.0.1", `for="[2001:db8::9]:80";proto=https`)
	f.Add("[::1]:80", `for="\"`)
	p := proxies(f, "10.0.0.0/8")
	f.Fuzz(func(t *testing.T, list, pairs string) {
		h := http.Header{"X-Forwarded-For": {list}}
		for range 2 {
			got := p.Client("10.0.0.1", h)
			if a, err := netip.ParseAddr(got); err != nil || a.String() != got || len(got) > 45 {
				t.Fatalf("%q", got)
			}
			h = http.Header{"Forwarded": {pairs}}
		}
		for _, h := range []http.Header{{"X-Forwarded-For": {list, "192.0.2.7"}}, {"Forwarded": {pairs, "for=192.0.2.7"}}} {
			if got := p.Client("10.0.0.1", h); got != "192.0.2.7" {
				t.Errorf("%v: %s", h, got)
			}
		}
	})
}
