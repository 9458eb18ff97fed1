// SPDX-License-Identifier: AGPL-3.0-or-later

package client

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/test/must"
)

// gets wants a source to give a token, or an error with these words, of this kind, and a
// hint.
func gets(t *testing.T, source TokenSource, token, words string, kind Kind) {
	t.Helper()
	got, err := source(t.Context())
	if words == "" {
		if err != nil || strings.TrimSpace(got) != token {
			t.Errorf("%q, %v; want %q", got, err, token)
		}
		return
	}
	if got != "" || err == nil || !strings.Contains(err.Error(), words) || KindOf(err) != kind || hint.Of(err) == "" {
		t.Errorf("%q, %v of kind %d, hint %q; want %s", got, err, KindOf(err), hint.Of(err), words)
	}
}

// A file is read each time, and an empty one is no token.
func TestTokenFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "token")
	source := TokenFile(path)
	gets(t, source, "", "no such file", Permanent)
	for _, token := range []string{"one", "two"} {
		must.OK(t, os.WriteFile(path, []byte(token+"\n"), 0o600))
		gets(t, source, token, "", 0)
	}
	must.OK(t, os.WriteFile(path, []byte(" \n"), 0o600))
	gets(t, source, "", "token is empty", Permanent)
}

// A command's first line is the token; that it fails may pass, and what it says is told,
// but never what it printed.
func TestTokenCommand(t *testing.T) {
	big := fmt.Sprintf("head -c %d /dev/zero | tr '\\0' x", 1<<20)
	for command, want := range map[string]struct {
		token, words string
		kind         Kind
	}{
		"echo token":                        {token: "token"},
		"echo; echo ' token'; echo more":    {token: "token"},
		"printf token; sleep 60 & exit 0":   {token: "token"}, // its child holds stdout open
		"cat; echo token":                   {token: "token"}, // its input is empty
		big:                                 {token: strings.Repeat("x", mostPrinted)},
		"true":                              {words: "printed no token"},
		"echo SECRET; echo why >&2; exit 3": {words: "exit status 3: why", kind: Temporary},
		big + " >&2; exit 1":                {words: "xxx", kind: Temporary},
		"kill -9 $$":                        {words: "killed", kind: Temporary},
		"/no/such/command":                  {words: "status 127", kind: Permanent},
	} {
		t.Run(command, func(t *testing.T) {
			gets(t, TokenCommand(command), want.token, want.words, want.kind)
			if _, err := TokenCommand(command)(t.Context()); err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Error("the error repeats what may be a token")
			} else if err != nil && len(err.Error()) > mostSaid+100 {
				t.Errorf("the error has %d bytes", len(err.Error()))
			}
		})
	}
}

// A command that asks at the terminal must fail at once: it is in a session that has none.
func TestTokenCommandHasNoTerminal(t *testing.T) {
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("there is no /proc")
	}
	gets(t, TokenCommand("read pid name state parent group session rest </proc/$$/stat; [ $session = $$ ] && echo token"), "token", "", 0)
	gets(t, TokenCommand("read answer </dev/tty; echo $answer"), "", "/dev/tty", Permanent)
}

// Where there is no shell, trying again does not help.
func TestTokenCommandWithoutShell(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	gets(t, TokenCommand("echo token"), "", `"sh": executable file not found`, Permanent)
}

// A signal ends the command, and all that it has started.
func TestTokenCommandIsEnded(t *testing.T) {
	dir := t.TempDir()
	fifo := filepath.Join(dir, "fifo")
	must.Run(t, "mkfifo", fifo)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		_, err := TokenCommand("exec 3>'" + fifo + "'; (sleep 1000; true) & wait")(ctx)
		ended <- err
	}()
	f, err := os.Open(fifo) // once the command has opened it
	must.OK(t, err)
	defer f.Close()
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if n, err := f.Read(make([]byte, 1)); n != 0 { // the end comes when nobody has it open
		t.Error(err)
	}
}

// GitHub gives an ID token for the audience that is asked for, and says nothing that
// could be one when it does not.
func TestGitHub(t *testing.T) {
	answers := map[string]struct {
		status      int
		body, words string
		kind        Kind
	}{
		"good":      {200, `{"count":3,"value":"a.b.c"}`, "", 0},
		"no right":  {401, `SECRET`, "answers 401", Permanent},
		"forbidden": {403, `SECRET`, "answers 403", Permanent},
		"elsewhere": {302, ``, "answers 302", Permanent},
		"no JSON":   {200, `SECRET`, "no ID token", Permanent},
		"no value":  {200, `{"value":""}`, "no ID token", Permanent},
		"too long":  {200, `{"value":"` + strings.Repeat("x", mostPrinted) + `"}`, "no ID token", Permanent},
		"down":      {502, `SECRET`, "answers 502", Temporary},
		"too much":  {429, ``, "answers 429", Temporary},
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		if r.Header.Get("Authorization") != "Bearer runner" || q.Get("audience") != "https://repo.example.org/a?b&c" || q.Get("api-version") != "2.0" {
			t.Errorf("asked for %s with %v", r.URL, r.Header)
		}
		if q.Get("name") == "elsewhere" {
			w.Header().Set("Location", "/elsewhere")
		}
		answer := answers[q.Get("name")]
		w.WriteHeader(answer.status)
		fmt.Fprint(w, answer.body)
	}))
	defer s.Close()
	for name, want := range answers {
		t.Run(name, func(t *testing.T) {
			g := GitHub{URL: s.URL + "/token?api-version=2.0&name=" + strings.ReplaceAll(name, " ", "+"), Token: "runner", Audience: "https://repo.example.org/a?b&c"}
			gets(t, g.ask, "a.b.c", want.words, want.kind)
			if _, err := g.ask(t.Context()); err != nil && strings.Contains(err.Error(), "SECRET") {
				t.Errorf("%v repeats the answer", err)
			}
		})
	}
	gets(t, GitHub{URL: "http://127.0.0.1:1/?a=b"}.ask, "", "connection refused", Temporary)
	if _, err := (GitHub{URL: "nowhere"}).ask(t.Context()); err == nil {
		t.Error("asked nowhere")
	}
}

// An outage of GitHub's that is over soon is not noticed.
func TestGitHubComesBack(t *testing.T) {
	asked := 0
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if asked++; asked == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		fmt.Fprint(w, `{"value":"a.b.c"}`)
	}))
	defer s.Close()
	gets(t, GitHub{URL: s.URL}.IDToken, "a.b.c", "", 0)
}

// An ID token is for the server's address as people give it.
func TestAudience(t *testing.T) {
	for given, want := range map[string]string{
		"https://repo.example.org": "https://repo.example.org", "https://repo.example.org/": "https://repo.example.org",
		"https://user:secret@repo.example.org:8443/os/": "https://repo.example.org:8443/os", "unix:/run/x.sock": "", "nowhere": "",
	} {
		got, err := Audience(given)
		if got != want || (err != nil) != (want == "") || err != nil && KindOf(err) != Usage {
			t.Errorf("%s: %q, %v", given, got, err)
		}
	}
}
