// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"reflect"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/units"
)

// TestParseAfter pins the forms of the list, the order of the works, and names that
// differ.
func TestParseAfter(t *testing.T) {
	c, err := Parse([]byte(`after:
  - command: [/usr/local/bin/purge-cdn, --all]
    refs: ["os/**"]
    timeout: 1m
  - deltas: {refs: ["os/**"], from: [parent, 3, empty, 1], at-once: 2, keep: 0, max-bsdiff-size: 128MiB}
  - command: [purge-cdn]
  - flatpak: {args: ["--generate-static-deltas"]}
  - deltas: {}
    timeout: 2h
`))
	if err != nil {
		t.Fatal(err)
	}
	os := []string{"os/**"}
	want := []After{
		{Name: "deltas", Kind: AfterDeltas, Refs: os, Deltas: Deltas{From: []int{0, 1, 3}, AtOnce: 2, Keep: 0, MaxBsdiff: 128 << 20}},
		{Name: "deltas (2)", Kind: AfterDeltas, Timeout: units.Duration(2 * time.Hour), Deltas: defaultDeltas()},
		{Name: "flatpak", Kind: AfterFlatpak, Flatpak: Flatpak{Args: []string{"--generate-static-deltas"}}},
		{Name: "command purge-cdn", Kind: AfterCommand, Refs: os, Timeout: units.Duration(time.Minute), Command: []string{"/usr/local/bin/purge-cdn", "--all"}},
		{Name: "command purge-cdn (2)", Kind: AfterCommand, Command: []string{"purge-cdn"}},
	}
	if !reflect.DeepEqual(c.After, want) {
		t.Errorf("got\n%+v\nwant\n%+v", c.After, want)
	}
	if a := &want[0]; !a.Concerns("os/x86_64/stable") || a.Concerns("app/x") || !want[1].Concerns("app/x") {
		t.Error("it concerns other refs")
	}
}

// TestAfterFaults pins that each fault is told with its line and the way out.
func TestAfterFaults(t *testing.T) {
	for text, want := range map[string]string{
		"after: {command: [x]}":                                      "line 1: a mapping does not belong here",
		"after:\n- {}":                                               "after 1: needs one of the keys deltas, flatpak and command; deltas: {} and flatpak: {} have all defaults",
		"after:\n- {refs: [a]}":                                      "line 2: after 1: needs one of the keys deltas, flatpak and command; deltas: {} and flatpak: {} have all defaults",
		"after:\n- {publish: now}":                                   "after 1: needs one of the keys deltas, flatpak and command; deltas: {} and flatpak: {} have all defaults\nline 2: unknown key \"publish\"",
		"after:\n- {flatpak: {}, command: [x]}":                      "line 2: after 1: is more than one work: give each of deltas, flatpak and command an entry of its own",
		"after:\n- command: []":                                      "line 2: after 1: command: names no program; it is a list such as [/usr/local/bin/purge-cdn, --all]",
		"after:\n- command: purge":                                   "line 2: after 1: command: needs a list; [] is an empty one",
		"after:\n- command: [bin/purge]":                             "line 2: after 1: command: bin/purge is relative: give an absolute path, or a name that is in $PATH",
		"after:\n- command: [\"\"]":                                  "line 2: after 1: command: needs a value",
		"after:\n- {command: [x], timeout: 0}":                       "line 2: after 1: timeout: must be more than 0",
		"after:\n- {command: [x], refs: []}":                         "line 2: after 1: refs: concerns no ref; leave the key out for all refs",
		"after:\n- {command: [x], refs: [\"a[b]\"]}":                 "line 2: after 1: refs: ref glob \"a[b]\": only letters, digits and any of - . _ / * may be in it",
		"after:\n- deltas: {from: []}":                               "line 2: after 1: deltas: from: asks for no delta; leave the key out for those from the parent",
		"after:\n- deltas: {from: [0]}":                              "line 2: after 1: deltas: from: \"0\" is not one of parent, empty, or the number of releases back, from 1 to 100",
		"after:\n- deltas: {from: [main]}":                           "line 2: after 1: deltas: from: \"main\" is not one of parent, empty, or the number of releases back, from 1 to 100",
		"after:\n- deltas: {at-once: 0}":                             "line 2: after 1: deltas: at-once: must be from 1 to 64",
		"after:\n- deltas: {max-bsdiff-size: 5GiB}":                  "line 2: after 1: deltas: max-bsdiff-size: must be at most 4GiB",
		"after:\n- flatpak: {args: [repo, --prune]}":                 "line 2: after 1: flatpak: args: \"repo\" is no option, and not the value of one; the repository is the one that is served",
		"after:\n- {flatpak: {}, refs: [\"app/**\"]}":                "line 2: after 1: refs: flatpak writes the summary, which is to show all refs: leave the key out",
		"after:\n- {deltas: {refs: [a]}, refs: [b]}":                 "line 2: after 1: refs: the refs of these deltas are given twice",
		"after:\n- deltas: {refs: [a], into: there}\n- command: [x]": "line 2: unknown key \"into\"",
	} {
		_, err := Parse([]byte(text))
		if err == nil || err.Error() != want {
			t.Errorf("%s\ngot:  %v\nwant: %s", text, err, want)
		}
	}
}
