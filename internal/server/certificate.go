// SPDX-License-Identifier: AGPL-3.0-or-later

package server

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
)

// certificate is the server's pair, and the authorities of its clients. All are read
// again when one of their files changes, so that what is renewed needs no restart. What
// cannot be used is logged, once for each change, and what was read before stays.
type certificate struct {
	files config.TLS
	log   *slog.Logger

	mu      sync.Mutex
	current *tls.Config
	seen    []fs.FileInfo // of paths, when they were last read; nil: not there
}

// loadCertificate reads the files; it is nil if there are none.
func loadCertificate(files config.TLS, log *slog.Logger) (*certificate, error) {
	if files.Cert == "" {
		return nil, nil
	}
	c := &certificate{files: files, log: log}
	c.seen = c.look()
	var err error
	if c.current, err = c.load(); err != nil {
		return nil, fmt.Errorf("load the certificate: %w", err)
	}
	c.warnIfExpired()
	return c, nil
}

// config is what each connection begins with.
func (c *certificate) config() *tls.Config {
	return &tls.Config{GetConfigForClient: c.get, MinVersion: tls.VersionTLS12, SessionTicketsDisabled: c.files.ClientCA != ""}
}

// get gives the present files for a handshake (tls.Config.GetConfigForClient).
func (c *certificate) get(*tls.ClientHelloInfo) (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if now := c.look(); !slices.EqualFunc(now, c.seen, config.Unchanged) {
		c.read(now)
	}
	return c.current, nil
}

// end is when the pair in use ends.
func (c *certificate) end() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.expires()
}

// reload reads the files again, also if they look unchanged.
func (c *certificate) reload() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.read(c.look())
}

func (c *certificate) read(now []fs.FileInfo) {
	c.seen = now
	read, err := c.load()
	if err != nil {
		c.log.Error("the changed certificate is not used, the last one stays", "file", c.files.Cert, "err", err)
		return
	}
	c.current = read
	c.log.Info("certificate read again", "file", c.files.Cert, "expires", c.expires())
	c.warnIfExpired()
}

// load reads all files.
func (c *certificate) load() (*tls.Config, error) {
	pair, err := tls.LoadX509KeyPair(c.files.Cert, c.files.Key)
	if err != nil {
		return nil, fmt.Errorf("%s with the key %s: %w", c.files.Cert, c.files.Key, err)
	}
	read := c.config()
	read.GetConfigForClient = nil
	read.Certificates = []tls.Certificate{pair}
	read.NextProtos = []string{"h2", "http/1.1"}
	if c.files.ClientCA == "" {
		return read, nil
	}
	text, err := os.ReadFile(c.files.ClientCA)
	if err != nil {
		return nil, err
	}
	read.ClientAuth, read.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
	if !read.ClientCAs.AppendCertsFromPEM(text) {
		return nil, fmt.Errorf("%s holds no certificate in PEM form", c.files.ClientCA)
	}
	return read, nil
}

// expires is when the present certificate ends. The caller holds mu.
func (c *certificate) expires() time.Time { return c.current.Certificates[0].Leaf.NotAfter }

func (c *certificate) warnIfExpired() {
	if at := c.expires(); time.Now().After(at) {
		c.log.Warn("the certificate has expired, so clients refuse it", "file", c.files.Cert, "expired", at)
	}
}

func (c *certificate) paths() []string {
	paths := []string{c.files.Cert, c.files.Key}
	if c.files.ClientCA != "" {
		paths = append(paths, c.files.ClientCA)
	}
	return paths
}

func (c *certificate) look() (all []fs.FileInfo) {
	for _, path := range c.paths() {
		info, err := os.Stat(path)
		if err != nil {
			info = nil
		}
		all = append(all, info)
	}
	return all
}

// warnIfUnreadable says so early, if the owner of the repository, who this process is
// by now, will not be able to read a renewed pair.
func (c *certificate) warnIfUnreadable() {
	for _, path := range c.paths() {
		f, err := os.Open(path)
		if err != nil {
			c.log.Warn("a renewed certificate will need a restart, as the owner of the repository cannot read its file", "file", path, "err", err)
			continue
		}
		_ = f.Close() // it was only opened
	}
}
