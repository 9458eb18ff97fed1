// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build linux

package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/lirios/ostree-upload/test/store"
)

// Where a turn's repository is in its store.
const (
	bucketName = "repo"
	bucketPath = "os"
)

// bucket is a push to a server whose repository is in an object store, and rclone
// straight to the store. Each turn has a store of its own.
func (b *bench) bucket(context.Context) ([]contender, error) {
	return []contender{b.pushingToBucket(b.share), b.rclone(b.share)}, nil
}

// inStore is a contender that copies into a store.
func (b *bench) inStore(name string, s *source, ready func(context.Context, *store.Gateway, string) (*turn, error)) contender {
	return contender{name, func(ctx context.Context, folder string) (*turn, error) {
		program, err := store.Find()
		if err != nil {
			return nil, err
		}
		g, err := store.Start(ctx, program, filepath.Join(folder, "store"))
		if err != nil {
			return nil, err
		}
		t, err := b.readyIn(ctx, g, folder, ready)
		if err != nil {
			g.Stop()
			return nil, err
		}
		end := t.end
		t.end = func(trial *trial) error {
			defer g.Stop()
			if err := end(trial); err != nil {
				return err
			}
			// Its bucket is a folder that is laid out as a repository.
			return b.complete(ctx, s, filepath.Join(g.Folder, bucketName, bucketPath))
		}
		return t, nil
	}}
}

// readyIn makes a turn in a store, and has its end count the store's requests.
func (b *bench) readyIn(ctx context.Context, g *store.Gateway, folder string, ready func(context.Context, *store.Gateway, string) (*turn, error)) (*turn, error) {
	if err := g.MakeBucket(ctx, bucketName); err != nil {
		return nil, err
	}
	t, err := ready(ctx, g, folder)
	if err != nil {
		return nil, err
	}
	before, err := g.Requests()
	if err != nil {
		return nil, err
	}
	end := t.end
	t.end = func(trial *trial) error {
		if err := end(trial); err != nil {
			return err
		}
		after, err := g.Requests()
		trial.Requests = store.Since(before, after)
		return err
	}
	return t, nil
}

// pushingToBucket is ostree-upload.
func (b *bench) pushingToBucket(s *source) contender {
	return b.inStore("push into a bucket", s, func(ctx context.Context, g *store.Gateway, folder string) (*turn, error) {
		lines := fmt.Sprintf("repo: s3://%s/%s\nstate: %s\ns3: {endpoint: %q, path-style: true}\n", bucketName, bucketPath, filepath.Join(folder, "state"), g.URL)
		server, token, err := b.receiveWith(ctx, folder, lines, store.Env(), "--init")
		if err != nil {
			return nil, err
		}
		var out string
		var memory int64
		run := func(ctx context.Context) (err error) {
			cmd := b.command(ctx, b.binary, "push", "--json", "--repo="+s.repo, "--address=http://"+server.address, "--branch="+s.ref)
			cmd.Env = append(os.Environ(), "OSTREE_UPLOAD_TOKEN="+token)
			out, memory, err = watched(cmd)
			return err
		}
		return &turn{run: run, end: func(t *trial) error {
			defer server.stop()
			t.Client = memory
			return note(t, out, server)
		}}, nil
	})
}

// rclone copies the files of the build repository as they are.
func (b *bench) rclone(s *source) contender {
	return b.inStore("rclone copy --transfers 32", s, func(_ context.Context, g *store.Gateway, _ string) (*turn, error) {
		return &turn{
			run: func(ctx context.Context) error {
				cmd := b.command(ctx, "rclone", "copy", "--transfers", "32", "--s3-no-check-bucket", s.repo, "store:"+bucketName+"/"+bucketPath)
				cmd.Env = append(append(os.Environ(), store.Env()...), "RCLONE_CONFIG=/dev/null", "RCLONE_CONFIG_STORE_TYPE=s3",
					"RCLONE_CONFIG_STORE_PROVIDER=Other", "RCLONE_CONFIG_STORE_ENV_AUTH=true", "RCLONE_CONFIG_STORE_REGION="+store.Region,
					"RCLONE_CONFIG_STORE_ENDPOINT="+g.URL)
				_, err := output(cmd)
				return err
			},
			end: func(*trial) error { return nil },
		}, nil
	})
}
