// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
)

// certificate is the server's pair, which is read again when its files change, so
// that a renewed one needs no restart. A pair that cannot be used is logged, once
// for each change, and the one before stays.
type certificate struct {
	files config.TLS
	log   *slog.Logger

	mu      sync.Mutex
	current *tls.Certificate
	seen    [2]stamp // of the files when they were last read
}

// stamp tells one content of a file from another.
type stamp struct {
	size    int64
	changed time.Time
}

// loadCertificate reads the pair; it is nil if there are no files.
func loadCertificate(files config.TLS, log *slog.Logger) (*certificate, error) {
	if files.Cert == "" {
		return nil, nil
	}
	c := &certificate{files: files, log: log}
	c.seen = c.stamps()
	pair, err := tls.LoadX509KeyPair(files.Cert, files.Key)
	if err != nil {
		return nil, fmt.Errorf("load the certificate: %w", err)
	}
	c.current = &pair
	return c, nil
}

// get gives the pair for a handshake (tls.Config.GetCertificate).
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.stamps(); now != c.seen {
		c.read(now)
	}
	return c.current, nil
}

// end is when the pair in use ends.
func (c *certificate) end() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.current.Leaf.NotAfter
}

// reload reads the pair again, also if it looks unchanged.
func (c *certificate) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read(c.stamps())
}

func (c *certificate) read(now [2]stamp) {
	c.seen = now
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		c.log.Error("the changed certificate is not used, the last one stays", "file", c.files.Cert, "err", err)
		return
	}
	c.current = &pair
	c.log.Info("certificate read again", "file", c.files.Cert, "expires", pair.Leaf.NotAfter)
}

func (c *certificate) stamps() (s [2]stamp) {
	for i, path := range []string{c.files.Cert, c.files.Key} {
		if st, err := os.Stat(path); err == nil { // else a stamp that no file has
			s[i] = stamp{st.Size(), st.ModTime()}
		}
	}
	return s
}

// warnIfUnreadable says so early, if the owner of the repository, who this process is
// by now, will not be able to read a renewed pair.
func (c *certificate) warnIfUnreadable() {
	for _, path := range []string{c.files.Cert, c.files.Key} {
		f, err := os.Open(path)
		if err != nil {
			c.log.Warn("a renewed certificate will need a restart, as the owner of the repository cannot read its file", "file", path, "err", err)
			continue
		}
		_ = f.Close() // it was only opened
	}
}
