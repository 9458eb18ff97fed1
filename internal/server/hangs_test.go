// SPDX-License-Identifier: AGPL-3.0-or-later

package server_test

import (
	"context"
	"log/slog"
	"path/filepath"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/mirror"
	"github.com/lirios/ostree-upload/internal/server"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// A start says that a store hangs, and goes on without its answer if it had that at an
// earlier start.
func TestStartWhileStoreHangs(t *testing.T) {
	store.SetCredentials(t)
	proxy, log := store.NewProxy(t, store.Fake(t, store.FakeOptions{})), newEventLog()
	b := bucket.Config{Bucket: store.FakeBucket, Prefix: "os", Endpoint: proxy.URL, PathStyle: true}
	state := filepath.Join(t.TempDir(), "state")
	opt := server.Options{Bucket: &b, State: state, Repo: mirror.Folder(state), Log: slog.New(slog.NewJSONHandler(log, nil))}
	client, err := bucket.Open(t.Context(), b)
	must.OK(t, err)
	must.OK(t, mirror.Init(t.Context(), client))

	hang := func(store.Request) *store.Fault { return store.HangsAfter }
	proxy.Play(hang)
	first, give := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- server.PrepareMirror(first, opt, time.Millisecond) }()
	log.wait("the object store has not answered yet")
	give()
	if err := <-ended; err == nil {
		t.Error("the first start went on without the bucket's configuration")
	}
	proxy.Play(nil)
	must.OK(t, server.PrepareMirror(t.Context(), opt, time.Hour))
	proxy.Play(hang)
	must.OK(t, server.PrepareMirror(t.Context(), opt, 100*time.Millisecond))
	log.wait("the object store does not answer; what is pushed waits for it")
}
