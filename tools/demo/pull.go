// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"strings"
)

// pull serves the production repository as any web server would, and pulls
// from it with the plain ostree command.
func (d *demo) pull(ctx context.Context) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	web := &http.Server{Handler: published(d.path("production"))}
	go web.Serve(l) // ends with Close
	defer web.Close()

	return d.pullFrom(ctx, "http://"+l.Addr().String())
}

// pullFrom pulls from what serves the files of a repository.
func (d *demo) pullFrom(ctx context.Context, url string) (string, error) {
	if err := d.makeRepo(ctx, "copy"); err != nil {
		return "", err
	}
	for _, args := range [][]string{
		{"remote", "add", "--repo=copy", "--no-gpg-verify", "production", url},
		{"pull", "--repo=copy", "production", ref},
	} {
		if _, err := d.ostree(ctx, args...); err != nil {
			return "", err
		}
	}
	objects, size, err := measure(d.path("copy/objects"))
	return fmt.Sprintf("ostree pull over HTTP into a third repository: %d objects, %s", objects, megabytes(size)), err
}

// published serves a repository, and nothing in it that starts with a dot: the
// state folder is there, and no business of those who pull.
func published(repo string) http.Handler {
	files := http.FileServer(http.Dir(repo))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.Contains(r.URL.Path, "/.") {
			http.NotFound(w, r)
			return
		}
		files.ServeHTTP(w, r)
	})
}

// check has ostree verify each object of the copy, and compares its commit
// with the one that was built.
func (d *demo) check(ctx context.Context) (string, error) {
	if _, err := d.ostree(ctx, "fsck", "--repo=copy"); err != nil {
		return "", err
	}
	built, err := d.ostree(ctx, "rev-parse", "--repo=build", ref)
	if err != nil {
		return "", err
	}
	pulled, err := d.ostree(ctx, "rev-parse", "--repo=copy", "production:"+ref)
	if err != nil {
		return "", err
	}
	if built != pulled {
		return "", fmt.Errorf("built %s, pulled %s", built, pulled)
	}
	return "ostree fsck finds no fault; the commit is the one that was built, " + built[:12], nil
}
