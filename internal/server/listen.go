// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"

	"github.com/coreos/go-systemd/v22/activation"
	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
)

// An entrance is where clients come in.
type entrance struct {
	listeners []net.Listener
	pair      *certificate // for HTTPS; nil: plain HTTP
	activated bool         // systemd listens, and has passed the sockets on
	metrics   net.Listener // for the metrics alone; nil: none
	page      net.Listener // for the operator's page alone; nil: none
}

// openEntrance listens at the address, or at the sockets that systemd has passed on,
// which come first.
func openEntrance(opt Options, pair *certificate) (*entrance, error) {
	e := &entrance{pair: pair}
	if files := activation.Files(true); len(files) > 0 {
		e.activated = true
		return e, e.use(files)
	}
	l, err := listen(opt.Address, opt.Repo, "--address")
	if err != nil {
		return e, err
	}
	e.add(l)
	return e, nil
}

// openMetrics listens for those who read the metrics, if they have an address.
func (e *entrance) openMetrics(address, repo string) (err error) {
	if address != "" {
		e.metrics, err = listen(address, repo, "metrics-address")
	}
	return err
}

// openPage listens for those who look at the operator's page, if it has an address.
func (e *entrance) openPage(address, repo string) error {
	if address == "" {
		return nil
	}
	l, err := listen(address, repo, "page-address")
	if err == nil {
		e.page = e.secured(l)
	}
	return err
}

func (e *entrance) add(l net.Listener) { e.listeners = append(e.listeners, e.secured(l)) }

// secured puts HTTPS before a port if there is a certificate. What goes over a unix
// socket stays on this machine, and its mode says who may connect.
func (e *entrance) secured(l net.Listener) net.Listener {
	if _, ok := l.(peerListener); !ok && e.pair != nil {
		return tls.NewListener(l, e.pair.config())
	}
	return l
}

// use listens at the sockets of files.
func (e *entrance) use(files []*os.File) error {
	for _, f := range files {
		l, err := passedOn(f)
		if err = errors.Join(err, f.Close()); err != nil {
			return hint.Add(fmt.Errorf("systemd has passed on %s, which cannot be listened at: %w", f.Name(), err),
				"the socket unit has to have ListenStream= and no Accept=yes")
		}
		e.add(l)
	}
	return nil
}

// passedOn is the listener of a socket that systemd listens at.
func passedOn(f *os.File) (net.Listener, error) {
	listens, err := unix.GetsockoptInt(int(f.Fd()), unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err == nil && listens == 0 {
		err = errors.New("nobody listens at it")
	}
	if err != nil {
		return nil, err
	}
	l, err := net.FileListener(f)
	if u, ok := l.(*net.UnixListener); ok {
		return peerListener{u, nil}, err
	}
	return l, err
}

// close closes what the HTTP server would, if that was never reached.
func (e *entrance) close() (err error) {
	for _, l := range append(slices.Clone(e.listeners), e.metrics, e.page) {
		if l != nil {
			err = errors.Join(err, l.Close())
		}
	}
	return err
}

// String lists the addresses.
func (e *entrance) String() string {
	var all []string
	for _, l := range e.listeners {
		all = append(all, nameOf(l))
	}
	return strings.Join(all, ",")
}

// nameOf is a listener's address as the configuration has it.
func nameOf(l net.Listener) string {
	if l.Addr().Network() == "unix" {
		return "unix:" + l.Addr().String()
	}
	return l.Addr().String()
}

// keys are what the log tells of it.
func (e *entrance) keys() []any {
	keys := []any{"address", e.String()}
	if e.activated {
		keys = append(keys, "sockets", "systemd")
	}
	if e.metrics != nil {
		keys = append(keys, "metrics", nameOf(e.metrics))
	}
	if e.page != nil {
		keys = append(keys, "page", nameOf(e.page))
	}
	return keys
}

// listen opens a port or a unix socket, at an address that was given by a flag or key.
func listen(address, repo, by string) (net.Listener, error) {
	if path, ok := config.SocketPath(address); ok {
		return listenAtSocket(path, repo)
	}
	l, err := net.Listen("tcp", address)
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, hint.Add(fmt.Errorf("listen on %s: %w", address, unix.EADDRINUSE),
			"stop what listens there, or name another address with %s", by)
	}
	return l, err
}
