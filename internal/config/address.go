// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"fmt"
	"net"
	"strings"
)

// maxSocketPath is the longest path of a unix socket on Linux (unix(7)).
const maxSocketPath = 107

// SocketPath is the path of an address that is a unix socket, as in unix:/run/x.sock.
func SocketPath(address string) (path string, ok bool) {
	path, ok = strings.CutPrefix(address, "unix:")
	return strings.TrimPrefix(path, "//"), ok
}

// CheckAddress refuses what no server can listen on.
func CheckAddress(s string) error {
	if path, ok := SocketPath(s); ok {
		return checkSocketPath(s, path)
	}
	_, port, err := net.SplitHostPort(s)
	if err == nil {
		_, err = net.LookupPort("tcp", port)
	}
	if err != nil {
		return fmt.Errorf("%q is not an address such as :8080, 127.0.0.1:8080 or unix:/run/ostree-upload.sock", s)
	}
	return nil
}

func checkSocketPath(address, path string) error {
	switch {
	case len(path) > maxSocketPath:
		return fmt.Errorf("the path of the unix socket %s has %d bytes, and can have %d", path, len(path), maxSocketPath)
	case path == "" || strings.HasSuffix(path, "/"):
		return fmt.Errorf("%q lacks the path of a unix socket, as in unix:/run/ostree-upload.sock", address)
	case strings.HasPrefix(path, "@"): // it would have no mode, and so be open to everyone
		return fmt.Errorf("%q is an abstract socket: name a path, as in unix:/run/ostree-upload.sock", address)
	}
	return nil
}
