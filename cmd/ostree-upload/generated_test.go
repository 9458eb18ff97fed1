// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package main

import (
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"testing"

	"github.com/alecthomas/kong"

	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/tools/manual"
)

// update is what `make generated` sets.
var update = flag.Bool("update", false, "write the generated files instead of comparing them")

const generated = "../../packaging/generated"

// The manual pages and completions say what the command line takes now.
func TestGenerated(t *testing.T) {
	files := manual.Files(programs()...)
	if *update {
		must.OK(t, os.RemoveAll(generated))
		must.OK(t, os.MkdirAll(generated, 0o755))
	}
	for name, text := range files {
		path := filepath.Join(generated, name)
		if *update {
			must.OK(t, os.WriteFile(path, []byte(text), 0o644))
			continue
		}
		there, err := os.ReadFile(path)
		if err != nil || string(there) != text {
			t.Errorf("%s is not what the command line takes now: make generated (%v)", name, err)
		}
	}
	there, err := os.ReadDir(generated)
	must.OK(t, err)
	if len(there) != len(files) {
		t.Errorf("%d files are there, %d are made: make generated", len(there), len(files))
	}
}

// programs are the server's build, which has all commands, and the client's.
func programs() []manual.Program {
	model, client := parserOf(new(cli)).Model, new(cli)
	own := parserOf(client).Model
	for _, f := range own.Children[slices.IndexFunc(own.Children, func(n *kong.Node) bool { return n.Name == "sessions" })].Flags {
		if f.Target.Addr().Interface() == &client.Sessions.State {
			f.Hidden = true // as in that build
		}
	}
	return []manual.Program{
		{Name: "ostree-upload", Model: model, Synopsis: "push OSTree commits to a server, and serve a repository that receives them"},
		{Name: "ostree-upload-client", Model: own, Without: ofTheServer(own), Synopsis: "push OSTree commits to a server"},
	}
}

// ofTheServer are the commands of serverCommands.
func ofTheServer(model *kong.Application) []*kong.Node {
	return slices.DeleteFunc(slices.Clone(model.Children), func(n *kong.Node) bool {
		for _, f := range reflect.VisibleFields(reflect.TypeFor[serverCommands]()) {
			if n.Target.Type() == f.Type {
				return false
			}
		}
		return true
	})
}
