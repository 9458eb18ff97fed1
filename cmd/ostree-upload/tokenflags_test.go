// SPDX-License-Identifier: AGPL-3.0-or-later

package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/test/idp"
)

// The token comes from a flag before a variable, from what is made for this program before
// what a CI gives each job, and two flags are one too many.
func TestOriginOfToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(file, []byte("of-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	github := idp.Start(t).GitHub("runner", time.Minute)
	const (
		flag = "OSTREE_UPLOAD_"
		url  = "ACTIONS_ID_TOKEN_REQUEST_URL"
	)
	for _, tt := range []struct {
		name  string
		flags tokenFlags
		env   map[string]string
		want  string // the token, ID for one of GitHub, or words of the error
	}{
		{"nothing", tokenFlags{}, nil, ""},
		{"token", tokenFlags{Token: "of-flag"}, nil, "of-flag"},
		{"file", tokenFlags{TokenFile: file}, nil, "of-file"},
		{"command", tokenFlags{TokenCommand: "echo of-command"}, nil, "of-command"},
		{"flag before variables", tokenFlags{Token: "of-flag", TokenFile: file}, map[string]string{"TOKEN_FILE": file, "TOKEN_COMMAND": "false"}, "of-flag"},
		{"file before command before token", tokenFlags{Token: "x", TokenFile: file, TokenCommand: "false"}, map[string]string{"TOKEN": "x", "TOKEN_FILE": file, "TOKEN_COMMAND": "false"}, "of-file"},
		{"command before token", tokenFlags{Token: "x", TokenCommand: "echo of-command"}, map[string]string{"TOKEN": "x", "TOKEN_COMMAND": "echo of-command"}, "of-command"},
		{"token before those of a CI", tokenFlags{Token: "x"}, map[string]string{"TOKEN": "x", "ID_TOKEN": "y", url: github}, "x"},
		{"GitLab", tokenFlags{}, map[string]string{"ID_TOKEN": "of-gitlab", url: github}, "of-gitlab"},
		{"GitHub", tokenFlags{}, map[string]string{url: github}, "ID"},
		{"audience asks GitHub", tokenFlags{Token: "x", Audience: "y"}, map[string]string{"TOKEN": "x", url: github}, "ID"},
		{"audience elsewhere", tokenFlags{Audience: "y"}, nil, "--audience is for a job in GitHub Actions"},
		{"two flags", tokenFlags{Token: "x", TokenFile: file}, nil, "--token and --token-file do not go together"},
		{"two others", tokenFlags{TokenCommand: "x", Audience: "y"}, nil, "--token-command and --audience do not go together"},
		{"a command that fails", tokenFlags{TokenCommand: "echo sorry >&2; false"}, nil, "sorry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, name := range []string{"TOKEN", "TOKEN_FILE", "TOKEN_COMMAND", "ID_TOKEN"} {
				t.Setenv(flag+name, tt.env[name])
			}
			t.Setenv(url, tt.env[url])
			t.Setenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "runner")
			token, source, err := tt.flags.get(t.Context(), "https://repo.example.org")
			if err != nil {
				if !strings.Contains(err.Error()+hint.Of(err), tt.want) || token != "" {
					t.Errorf("%q, %v; want %q", token, err, tt.want)
				}
				return
			}
			if token = strings.TrimSpace(token); strings.Count(token, ".") == 2 {
				token = "ID"
			}
			if token != tt.want {
				t.Errorf("%q, want %q", token, tt.want)
			}
			fixed := tt.flags.Token != "" && tt.want == tt.flags.Token || tt.want == "of-gitlab" || tt.want == ""
			if (source == nil) != fixed {
				t.Errorf("another one can be got: %v", source != nil)
			}
		})
	}
}
