// SPDX-License-Identifier: AGPL-3.0-or-later

package console

import (
	"crypto/rand"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/lirios/ostree-upload/internal/durable"
	"github.com/lirios/ostree-upload/internal/token"
)

// How many sign-ins there are at most, for one token and in all, and how long one lasts
// that is not used. Beyond that, the one that was not used for longest ends.
const (
	mostOfToken = 16
	mostSignIns = 1000
	idleTime    = 12 * time.Hour
	noteEvery   = 5 * time.Minute // when it was last used
)

// signIn says that a browser has shown a token.
type signIn struct {
	Hash string    `json:"token"` // of the token, as the configuration has it
	Used time.Time `json:"used"`  // up to noteEvery late
}

// signIns are those that last, by the hash of the browser's cookie. A file keeps them,
// so that a restart of the server signs nobody out; whoever reads it has neither a cookie
// nor a token.
type signIns struct {
	path string
	log  *slog.Logger

	mu  sync.Mutex
	all map[string]signIn
}

// openSignIns reads what the file says. Nobody relies on it, so one that cannot be read
// is told in the log.
func openSignIns(path string, log *slog.Logger) *signIns {
	s := &signIns{path: path, log: log, all: map[string]signIn{}}
	if path == "" {
		return s
	}
	err := durable.RemoveTemporary(path)
	text, readErr := os.ReadFile(path)
	if errors.Is(readErr, fs.ErrNotExist) {
		return s
	}
	if err = errors.Join(err, readErr); err == nil {
		err = json.Unmarshal(text, &s.all)
	}
	if err != nil || s.all == nil {
		log.Warn("everybody has to sign in at the page again", "file", path, "err", err)
		s.all = map[string]signIn{}
	}
	return s
}

// cookieName is that of the page's cookie. Cookies are shared by all ports of a host, so
// that of a server with one has it in the name.
func cookieName(r *http.Request) string {
	_, port, err := net.SplitHostPort(r.Host)
	if err != nil || strings.Trim(port, "0123456789") != "" {
		return "ostree-upload"
	}
	return "ostree-upload-" + port
}

// find is the sign-in of a request, nil if it has none that lasts.
func (s *signIns) find(r *http.Request) *signIn {
	cookie, err := r.Cookie(cookieName(r))
	if err != nil {
		return nil
	}
	key, now := token.Hash(cookie.Value), time.Now().UTC()
	s.mu.Lock()
	defer s.mu.Unlock()
	found, has := s.all[key]
	if !has || now.Sub(found.Used) > idleTime {
		return nil
	}
	if now.Sub(found.Used).Abs() > noteEvery {
		found.Used = now
		s.all[key] = found
		s.keep()
	}
	return &found
}

// add makes a sign-in of a token and gives the browser its cookie, which it is to forget
// when it is closed.
func (s *signIns) add(w http.ResponseWriter, r *http.Request, hash string, secure bool) {
	secret := rand.Text()
	s.mu.Lock()
	defer s.mu.Unlock()
	s.drop(time.Now(), hash)
	s.all[token.Hash(secret)] = signIn{Hash: hash, Used: time.Now().UTC()}
	s.keep()
	http.SetCookie(w, &http.Cookie{Name: cookieName(r), Value: secret, Path: "/", HttpOnly: true, Secure: secure, SameSite: http.SameSiteStrictMode})
}

// drop makes room for one sign-in more of a token.
func (s *signIns) drop(now time.Time, hash string) {
	maps.DeleteFunc(s.all, func(_ string, in signIn) bool { return now.Sub(in.Used) > idleTime })
	keys := slices.SortedFunc(maps.Keys(s.all), func(a, b string) int { return s.all[b].Used.Compare(s.all[a].Used) })
	kept, ofToken := 0, 0
	for _, key := range keys {
		if kept++; s.all[key].Hash == hash {
			ofToken++
		}
		if kept >= mostSignIns || s.all[key].Hash == hash && ofToken >= mostOfToken {
			delete(s.all, key)
		}
	}
}

// end ends the sign-in of a request.
func (s *signIns) end(w http.ResponseWriter, r *http.Request) {
	name := cookieName(r)
	if cookie, err := r.Cookie(name); err == nil {
		s.forget(token.Hash(cookie.Value))
	}
	http.SetCookie(w, &http.Cookie{Name: name, Path: "/", MaxAge: -1, HttpOnly: true, SameSite: http.SameSiteStrictMode})
}

// forget ends the sign-in of a cookie's hash. Of a cookie that is none of ours, which
// anybody may send, nothing is written.
func (s *signIns) forget(key string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, has := s.all[key]; has {
		delete(s.all, key)
		s.keep()
	}
}

// keep writes the file. If the disk does not take it, people sign in again after a
// restart.
func (s *signIns) keep() {
	if s.path == "" {
		return
	}
	text, err := json.Marshal(s.all)
	if err == nil {
		err = durable.Replace(s.path, func(f *os.File) error {
			_, err := f.Write(append(text, '\n'))
			return err
		})
	}
	if err != nil {
		s.log.Warn("a restart will sign everybody out of the page", "file", s.path, "err", err)
	}
}
