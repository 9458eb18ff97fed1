// SPDX-License-Identifier: AGPL-3.0-or-later

// Package forwarded tells which address a request comes from, also through proxies.
//
//   - Only what a trusted proxy wrote counts. Each proxy adds the address of its own
//     peer on the right, so the chain is read from there, and ends at the first
//     address that is no trusted proxy's: whatever stands before it may be invented.
//   - What cannot be read ends the chain, too.
//
// All functions may be called concurrently.
package forwarded

import (
	"fmt"
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
)

// Unix is the name of all peers of a Unix socket. With a colon and a number behind it,
// it is that user.
const Unix = "unix"

// Proxies are peers whose word is believed. The zero value is none.
type Proxies struct {
	networks []netip.Prefix
	unix     bool
}

// ParseProxies reads addresses, networks (10.0.0.0/8), and Unix.
func ParseProxies(names []string) (Proxies, error) {
	var p Proxies
	for _, name := range names {
		if name == Unix {
			p.unix = true
			continue
		}
		network, err := parseNetwork(name)
		if err != nil {
			return Proxies{}, err
		}
		p.networks = append(p.networks, network)
	}
	return p, nil
}

// CheckProxy refuses what ParseProxies cannot read.
func CheckProxy(name string) error {
	_, err := ParseProxies([]string{name})
	return err
}

func parseNetwork(name string) (netip.Prefix, error) {
	if a, err := netip.ParseAddr(name); err == nil && a.Zone() == "" {
		a = a.Unmap()
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	network, err := netip.ParsePrefix(name)
	if err != nil || network.Addr().Is4In6() {
		return netip.Prefix{}, fmt.Errorf("%q is neither an address such as 127.0.0.1, a network such as 10.0.0.0/8, nor %s", name, Unix)
	}
	return network.Masked(), nil
}

// Trusts tells whether a peer is one of the proxies, by what Peer returned for it.
func (p Proxies) Trusts(peer string) bool {
	if name, _, _ := strings.Cut(peer, ":"); name == Unix {
		return p.unix
	}
	a, err := netip.ParseAddr(peer)
	return err == nil && slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Contains(a) })
}

// Peer is the address of who is at the other end of a connection, from its address
// and port; Unix and perhaps a user for what has none.
func Peer(remote string) string {
	if strings.HasPrefix(remote, Unix+":") {
		return remote
	}
	a, err := netip.ParseAddrPort(remote)
	if err != nil {
		return Unix
	}
	return a.Addr().Unmap().WithZone("").String()
}

// Client is the address that a request comes from: that of the peer or, if it is a
// proxy, the one that the header tells.
func (p Proxies) Client(peer string, h http.Header) string {
	if !p.Trusts(peer) {
		return peer
	}
	chain := chain(h)
	for _, node := range slices.Backward(chain) {
		a, ok := parseNode(node)
		if !ok {
			break
		}
		if peer = a.String(); !p.Trusts(peer) {
			break
		}
	}
	return peer
}

// chain is the addresses in a header, the nearest last. Most proxies write
// X-Forwarded-For and pass on what a client put into Forwarded (RFC 7239), so that is
// read only where the other is not there.
func chain(h http.Header) (nodes []string) {
	if list := h.Values("X-Forwarded-For"); len(list) > 0 {
		return strings.Split(strings.Join(list, ","), ",")
	}
	for _, line := range h.Values("Forwarded") {
		more, ok := parseForwarded(line)
		if !ok {
			nodes = nil // what stands before it does not count either
		}
		nodes = append(nodes, more...)
	}
	return nodes
}

// parseNode reads an address with or without a port. Names that hide it, such as
// "unknown", are none.
func parseNode(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if inside, ok := strings.CutPrefix(s, "["); ok {
		host, port, closed := strings.Cut(inside, "]")
		a, err := netip.ParseAddr(host)
		return a.Unmap(), err == nil && closed && a.Is6() && a.Zone() == "" && isPort(port)
	}
	host, port := s, ""
	if i := strings.IndexByte(s, ':'); i >= 0 && i == strings.LastIndexByte(s, ':') { // IPv6 has more
		host, port = s[:i], s[i:]
	}
	a, err := netip.ParseAddr(host)
	return a.Unmap(), err == nil && a.Zone() == "" && isPort(port)
}

// isPort matches a port behind a colon, or nothing. Ports may have names that hide them
// (RFC 7239, 6.3).
var isPort = regexp.MustCompile(`^(:([0-9]{1,5}|_[-._A-Za-z0-9]{1,100}))?$`).MatchString
