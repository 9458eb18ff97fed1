// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"log/slog"
	"net"

	"github.com/lirios/ostree-upload/internal/config"
)

// Listen opens the port as Serve does.
func Listen(address string, files config.TLS) (net.Listener, error) {
	pair, err := loadCertificate(files, slog.Default())
	if err != nil {
		return nil, err
	}
	e, err := openEntrance(Options{Address: address}, pair)
	if err != nil {
		return nil, err
	}
	return e.listeners[0], nil
}
