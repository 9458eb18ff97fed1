// SPDX-License-Identifier: AGPL-3.0-or-later

// Package config is the server's YAML file and the tokens in it.
//
//   - A file is taken as a whole or not at all: unknown keys are errors, and
//     all errors are reported together, each with its line.
//   - Plaintext tokens never leave this package; only their SHA-256 does.
//   - A running server's configuration changes between two requests, never
//     within one: ask File.Current once and keep what it returns.
//
// Sizes are bytes, times are UTC. A Config does not change once it is loaded
// and may be shared; a File may be used concurrently.
package config

import (
	"errors"
	"fmt"

	"github.com/lirios/ostree-upload/internal/forwarded"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/internal/token"

	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/lirios/ostree-upload/internal/units"
)

// How the server writes its log.
const (
	LogText = "text" // key=value, for people and grep
	LogJSON = "json" // a document for each line
)

// Config is the content of a configuration file, with defaults filled in.
type Config struct {
	Repository                // the only one, or that of a View
	Repositories []Repository // those that have names; nil if there is one without
	Address      string       // host:port to listen on
	TLS          TLS          // both empty: plain HTTP
	// MetricsAddress is where the metrics are, and nothing else; "": on Address.
	MetricsAddress string
	Page           bool           // the operator's page is served, at Address unless PageAddress names another
	PageAddress    string         // where the page is, and nothing else; "": on Address
	SessionTTL     units.Duration // an open session that is idle for longer expires
	HoldTTL        units.Duration // a held session that nobody publishes for longer expires
	History        units.Duration // how long finished sessions are remembered
	LogFormat      string         // LogText or LogJSON
	Grace          units.Duration // how long a stopping server waits for requests under way
	Limits         Limits
	Tokens         []token.Token
	OIDC           []token.Trust // whose ID tokens are taken besides

	BasePath       string            // that a proxy puts the server below and does not take away, such as /push; or ""
	TrustedProxies forwarded.Proxies // whose word counts about where a request comes from

	whole *Config // what a View shows a part of
}

// TLS names PEM files: the server's certificate and its key, and the authorities that
// issue the certificates that all clients need then; "" if they need none.
type TLS struct {
	Cert, Key, ClientCA string
}

// Limits bound what clients may send; 0 means no limit.
type Limits struct {
	MaxObjectSize   units.Size // of one file, inflated
	MaxMetadataSize units.Size // of one commit, dirtree or dirmeta; never 0
	MaxSessionSize  units.Size // of all that one session sends, inflated
	MaxReserved     units.Size // of all that uploads of one token announced and did not send
	MinFreeSpace    units.Size // what uploads must leave free on the file system
	MaxSessions     int        // of one token that have not ended
	MaxRefs         int        // of one session
	MaxObjects      int        // that one session names
}

// Bounds of limits.max-metadata-size: what every libostree pulls, and what the
// newest ones do.
const (
	DefaultMetadata = 10 << 20
	MostMetadata    = 128 << 20
)

// Default is the configuration of an empty file.
func Default() *Config {
	return &Config{
		Repository: defaultRepository("repo"),
		Address:    ":8080",
		LogFormat:  LogText,
		SessionTTL: units.Duration(168 * time.Hour),
		HoldTTL:    units.Duration(720 * time.Hour),
		History:    units.Duration(2160 * time.Hour),
		Grace:      units.Duration(30 * time.Second),
		Limits: Limits{
			MaxObjectSize:   8 << 30,
			MaxMetadataSize: DefaultMetadata,
			MaxReserved:     64 << 30,
			MinFreeSpace:    1 << 30,
			MaxSessions:     50,
			MaxRefs:         20_000,
			MaxObjects:      5_000_000,
		},
	}
}

// Named is the token of a name, nil if none of it is valid at now. The name may also be
// that of an entry of oidc: then it is what those who match may do.
func (c *Config) Named(name string, now time.Time) *token.Token {
	for i := range c.Tokens {
		if t := &c.Tokens[i]; t.Name == name && !t.Expired(now) {
			return t
		}
	}
	for i := range c.OIDC {
		if t := &c.OIDC[i]; t.Name == name {
			return t.Token(time.Time{})
		}
	}
	return nil
}

// Load reads and checks the file at path. Errors of the content are joined,
// one for each fault; a file that is not there is an fs.ErrNotExist.
func Load(path string) (*Config, error) {
	text, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, &missingError{path}
	}
	if err != nil {
		return nil, unreadable(fmt.Errorf("read the configuration: %w", err))
	}
	c, err := Parse(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// unreadable adds what to do about a file that this user may not open.
func unreadable(err error) error {
	if errors.Is(err, fs.ErrPermission) {
		return hint.Add(err, "run this as the owner of the repository, or as root; that owner has to be able to read the file")
	}
	return notFolder(err)
}

// notFolder adds what to do about a folder where the file should be.
func notFolder(err error) error {
	if errors.Is(err, syscall.EISDIR) {
		return hint.Add(err, "a container gets a folder where the file to mount is not there: remove the folder, make an empty file, and start again")
	}
	return err
}

// missingError says that there is no configuration file, and how to get one.
type missingError struct{ path string }

func (e *missingError) Error() string { return "no configuration file at " + e.path }
func (e *missingError) Unwrap() error { return fs.ErrNotExist }
func (e *missingError) Hint() string {
	return "`ostree-upload gentoken --config " + e.path + "` makes one with a first token"
}
