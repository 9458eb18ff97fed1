// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/hint"
)

// listen opens the port, for HTTPS if there is a certificate.
func listen(address string, pair *certificate) (net.Listener, error) {
	l, err := net.Listen("tcp", address)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, hint.Add(fmt.Errorf("listen on %s: %w", address, unix.EADDRINUSE),
			"stop what listens there, or name another address with --address")
	}
	if err != nil || pair == nil {
		return l, err
	}
	return tls.NewListener(l, &tls.Config{GetCertificate: pair.get, NextProtos: []string{"h2", "http/1.1"}}), nil
}
