// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/wire"
)

// The control socket lets commands on the server's host have the running server do
// what needs its journal. It is in the state folder, so that only the owner of the
// repository and root come to it, and takes no token.

// controlName is the socket's name in the state folder.
const controlName = "control"

// controlAt opens the state folder, and gives the path of the socket by it: that of a
// socket may be no longer than 107 bytes, which the path of a folder may be.
func controlAt(state string) (folder *os.File, path string, err error) {
	folder, err = os.Open(state)
	if err != nil {
		return nil, "", err
	}
	return folder, fmt.Sprintf("/proc/self/fd/%d/%s", folder.Fd(), controlName), nil
}

// control answers at the control socket until ctx ends. A server does without it where
// there can be none.
func (s *Server) control(ctx context.Context) error {
	folder, path, err := controlAt(s.opt.State)
	if err != nil {
		return err
	}
	defer folder.Close() //nolint:errcheck // nothing was written to it
	name := filepath.Join(s.opt.State, controlName)
	if err := os.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		s.opt.Log.Warn("no control socket, so that prune needs the server stopped", "file", name, "err", err)
		return nil
	}
	l.SetUnlinkOnClose(false) // its path is only good for this process
	mux := http.NewServeMux()
	mux.HandleFunc("POST /prune", s.answerPrune)
	h := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute, BaseContext: func(net.Listener) context.Context { return ctx }}
	stop := context.AfterFunc(ctx, func() { _ = h.Close() })
	defer stop()
	err = h.Serve(l)
	_ = os.Remove(name) // the next start removes what is left
	if ctx.Err() != nil || errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// pruneRequest is the body of POST /prune: what the configuration of the command says,
// which may be one that is to be tried out.
type pruneRequest struct {
	DryRun bool          `json:"dry-run"`
	Keep   []config.Keep `json:"keep"`
}

// pruneAnswer is the answer to POST /prune.
type pruneAnswer struct {
	Pruned *wire.Pruned `json:"pruned,omitempty"`
	Error  string       `json:"error,omitempty"`
	Hint   string       `json:"hint,omitempty"`
}

func (s *Server) answerPrune(w http.ResponseWriter, r *http.Request) {
	var ask pruneRequest
	err := json.NewDecoder(r.Body).Decode(&ask)
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var a pruneAnswer
	if a.Pruned, err = s.Prune(r.Context(), ask.Keep, ask.DryRun); err != nil {
		a.Error, a.Hint = err.Error(), hint.Of(err)
	}
	_ = json.NewEncoder(w).Encode(a) // who is gone cannot be told
}

// askToPrune has the running server prune.
func askToPrune(ctx context.Context, opt Options, dryRun bool) (*wire.Pruned, error) {
	folder, path, err := controlAt(opt.State)
	if err != nil {
		return nil, unreached(opt, err)
	}
	defer folder.Close() //nolint:errcheck // nothing was written to it
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}
	defer transport.CloseIdleConnections()
	body, err := json.Marshal(pruneRequest{dryRun, opt.Settings().Keep})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequestWithContext(ctx, "POST", "http://server/prune", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	res, err := transport.RoundTrip(req)
	if err != nil {
		return nil, unreached(opt, err)
	}
	defer res.Body.Close() //nolint:errcheck // it was read
	var a pruneAnswer
	if err := json.NewDecoder(res.Body).Decode(&a); err != nil {
		return nil, fmt.Errorf("the running server answered %s: %w", res.Status, err)
	}
	if a.Error != "" {
		err = errors.New(a.Error)
		if a.Hint != "" {
			err = hint.Add(err, "%s", a.Hint)
		}
	}
	return a.Pruned, err
}

// unreached is the error of a running server that cannot be asked.
func unreached(opt Options, err error) error {
	err = fmt.Errorf("a server has the repository, and cannot be asked at %s: %w", filepath.Join(opt.State, controlName), err)
	switch {
	case errors.Is(err, fs.ErrPermission):
		return hint.Add(err, "run this as the owner of the repository, or as root")
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, unix.ECONNREFUSED):
		return hint.Add(err, "name the server's state folder with --state; a check or another prune, or a server that is starting, has no socket: wait for it")
	}
	return err
}
