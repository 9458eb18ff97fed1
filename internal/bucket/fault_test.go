// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket_test

import (
	"context"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// An operation is one call, and what must be so after it.
type operation struct {
	name  string
	first string // what the object has before, "" if there is none
	do    func(ctx context.Context, b *bucket.Bucket, key, etag string) error
	then  string // what it has after
}

// operations are all, with a body that is written in parts.
func operations(large string) []operation {
	return []operation{
		{"create", "", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			return b.Create(ctx, key, source("new"))
		}, "new"},
		{"create in parts", "", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			return b.Create(ctx, key, source(large))
		}, large},
		{"create what is there", "old", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			return want(fs.ErrExist, b.Create(ctx, key, source("new")))
		}, "old"},
		{"create in parts what is there", "old", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			return want(fs.ErrExist, b.Create(ctx, key, source(large)))
		}, "old"},
		{"put", "old", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			_, err := b.Put(ctx, key, []byte("new"))
			return err
		}, "new"},
		{"swap in", "", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			return swapped(ctx, b, key, "")
		}, "new"},
		{"swap", "old", func(ctx context.Context, b *bucket.Bucket, key, etag string) error {
			return swapped(ctx, b, key, etag)
		}, "new"},
		{"swap too late", "rival", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			_, err := b.Swap(ctx, key, []byte("new"), `"00000000000000000000000000000000"`)
			return want(bucket.ErrChanged, err)
		}, "rival"},
		{"delete", "old", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			return b.Delete(ctx, key, "")
		}, ""},
		{"delete if unchanged", "old", func(ctx context.Context, b *bucket.Bucket, key, etag string) error {
			return b.Delete(ctx, key, etag)
		}, ""},
		{"delete too late", "rival", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			return want(bucket.ErrChanged, b.Delete(ctx, key, `"00000000000000000000000000000000"`))
		}, "rival"},
		{"get", "old", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			body, _, err := b.Get(ctx, key, 100)
			if err == nil && string(body) != "old" {
				err = fmt.Errorf("read %q", body)
			}
			return err
		}, "old"},
		{"get nothing", "", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			_, _, err := b.Get(ctx, key, 100)
			return want(fs.ErrNotExist, err)
		}, ""},
		{"head", "old", func(ctx context.Context, b *bucket.Bucket, key, etag string) error {
			e, err := b.Head(ctx, key)
			if err == nil && e.ETag != etag {
				err = fmt.Errorf("it has the ETag %s, not %s", e.ETag, etag)
			}
			return err
		}, "old"},
		{"list", "old", func(ctx context.Context, b *bucket.Bucket, key, _ string) error {
			n := 0
			err := b.List(ctx, key, func(bucket.Entry) error { n++; return nil })
			if err == nil && n != 1 {
				err = fmt.Errorf("listed %d", n)
			}
			return err
		}, "old"},
	}
}

// swapped swaps in new, and compares the ETag.
func swapped(ctx context.Context, b *bucket.Bucket, key, etag string) error {
	now, err := b.Swap(ctx, key, []byte("new"), etag)
	if err != nil {
		return err
	}
	e, err := b.Head(ctx, key)
	if err == nil && e.ETag != now {
		err = fmt.Errorf("it says the ETag %s, which is %s", now, e.ETag)
	}
	return err
}

// want is nil for the error that is wanted.
func want(wanted, err error) error {
	if errors.Is(err, wanted) {
		return nil
	}
	return fmt.Errorf("it is not so that %w: %w", wanted, err)
}

// TestFaults plays each fault that may pass at each request of each operation: it ends as
// if there had been none.
func TestFaults(t *testing.T) {
	t.Run("fake", func(t *testing.T) { testFaults(t, store.Fake(t, store.FakeOptions{}), 600) })
	t.Run("gateway", func(t *testing.T) {
		g := store.New(t)
		g.Bucket(t, store.FakeBucket)
		testFaults(t, g.URL, 5<<20) // what S3 wants of a part that is not the last
	})
}

func testFaults(t *testing.T, url string, part int) {
	proxy := store.NewProxy(t, url)
	b := open(t, proxy.URL, func(c *bucket.Config) { c.PartsAbove, c.PartSize = int64(part), int64(part) })
	large := strings.Repeat("0123456789", part/10+1)
	must.OK(t, b.Probe(t.Context())) // deletions may have conditions
	met := 0
	for _, op := range operations(large) {
		for n := 1; ; n++ {
			played := 0
			for _, fault := range append(store.Passing, store.Emptied) {
				if !answers(fault, op.name) {
					continue
				}
				name := fmt.Sprintf("%s, %s at %d", op.name, fault, n)
				key, etag := strings.ReplaceAll(name, " ", "-"), ""
				if op.first != "" {
					var err error
					etag, err = b.Put(t.Context(), key, []byte(op.first))
					must.OK(t, err)
				}
				proxy.Play(func(r store.Request) *store.Fault {
					if r.N == n {
						return fault
					}
					return nil
				})
				if err := op.do(t.Context(), b, key, etag); err != nil {
					t.Errorf("%s: %v; requests: %v", name, err, proxy.Requests())
				}
				if len(proxy.Requests()) >= n {
					played++
				}
				proxy.Play(nil)
				if got := content(t, b, key); got != op.then {
					t.Errorf("%s: it has %d bytes, %.20q", name, len(got), got)
				}
			}
			if met += played; played == 0 {
				break
			}
		}
	}
	if met < 10*15 {
		t.Errorf("only %d faults were met", met)
	}
	t.Logf("%d faults were met", met)
}

// answers tells which requests a store may answer so.
func answers(fault *store.Fault, operation string) bool {
	if fault == store.Emptied { // what has a body of more than an object
		return operation == "list" || operation == "create in parts"
	}
	return true
}

// TestRivalWrites pins that a write whose answer was lost does not take another's for its
// own.
func TestRivalWrites(t *testing.T) {
	url := store.Fake(t, store.FakeOptions{})
	proxy := store.NewProxy(t, url)
	b, rival := open(t, proxy.URL), open(t, url)
	etag, err := b.Put(t.Context(), "ref", []byte("old"))
	must.OK(t, err)
	proxy.At(1, store.Before(func() {
		if _, err := rival.Swap(context.Background(), "ref", []byte("rival"), etag); err != nil {
			t.Error(err)
		}
	}))
	if _, err := b.Swap(t.Context(), "ref", []byte("mine"), etag); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("the rival was first, and Swap says %v", err)
	}
	proxy.At(1, store.Before(func() {
		if err := rival.Create(context.Background(), "object", source("rival")); err != nil {
			t.Error(err)
		}
	}))
	if err := b.Create(t.Context(), "object", source("mine!")); !errors.Is(err, fs.ErrExist) {
		t.Errorf("the rival was first, and Create says %v", err)
	}
	if got := content(t, b, "ref") + content(t, b, "object"); got != "rivalrival" {
		t.Errorf("what is there is %q", got)
	}
}

// TestDown pins that calls to a store that is down end by themselves, and tell so.
func TestDown(t *testing.T) {
	proxy := store.NewProxy(t, store.Fake(t, store.FakeOptions{}))
	b := open(t, proxy.URL)
	for name, fault := range map[string]*store.Fault{"lost": store.LostBefore, "503": store.Unavailable, "slow down": store.SlowDown} {
		for _, op := range operations(strings.Repeat("x", 1500)) {
			if op.first != "" || op.name == "get nothing" {
				continue
			}
			proxy.Play(func(store.Request) *store.Fault { return fault })
			err := op.do(t.Context(), b, "key", "")
			if err == nil || !bucket.Temporary(err) || hint.Of(err) == "" || !strings.Contains(err.Error(), "s3://repositories/os/key") {
				t.Errorf("%s, %s: temporary %v, hint %q, error %v", op.name, name, bucket.Temporary(err), hint.Of(err), err)
			}
		}
	}
}

// TestHangs pins that a connection on which nothing comes is ended, and the request sent
// again.
func TestHangs(t *testing.T) {
	proxy := store.NewProxy(t, store.Fake(t, store.FakeOptions{}))
	b := open(t, proxy.URL, func(c *bucket.Config) { c.Stall = time.Second })
	proxy.At(1, store.HangsAfter)
	must.OK(t, b.Create(t.Context(), "object", source("content")))
	if got := content(t, b, "object"); got != "content" {
		t.Errorf("it has %q", got)
	}
}

// TestWords pins what the errors say that an operator can mend.
func TestWords(t *testing.T) {
	url := store.Fake(t, store.FakeOptions{})
	t.Run("no bucket", func(t *testing.T) {
		b := open(t, url, func(c *bucket.Config) { c.Bucket = "none" })
		says(t, b.Probe(t.Context()), "there is no bucket none", "make the bucket")
	})
	t.Run("denied", func(t *testing.T) {
		proxy := store.NewProxy(t, url)
		proxy.Play(func(store.Request) *store.Fault { return store.Denied })
		b := open(t, proxy.URL)
		says(t, b.Create(t.Context(), "a", source("x")), "s3://repositories/os/a: access denied", "allow s3:PutObject on arn:aws:s3:::repositories/os/*")
		says(t, b.Probe(t.Context()), "access denied", "allow s3:ListBucket on arn:aws:s3:::repositories")
	})
	t.Run("unknown user", func(t *testing.T) { // whose objects are not absent
		proxy := store.NewProxy(t, url)
		proxy.Play(func(store.Request) *store.Fault { return store.UnknownUser })
		for _, op := range operations(strings.Repeat("x", 1500)) {
			if op.name != "head" && op.name != "delete too late" { // no answer to HEAD has a code
				says(t, op.do(t.Context(), open(t, proxy.URL), "key", ""), "the store does not take the credentials", "renew the credentials")
			}
		}
	})
	t.Run("no store", func(t *testing.T) {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusNotFound)
			_, _ = io.WriteString(w, `<html><head><meta charset="utf-8"></head></html>`)
		}))
		defer s.Close()
		_, _, err := open(t, s.URL).Get(t.Context(), "config", 100)
		says(t, err, "no answer of an S3 store", "s3.endpoint")
	})
	t.Run("no credentials", func(t *testing.T) {
		none := t.TempDir() + "/none"
		for name, value := range map[string]string{
			"AWS_ACCESS_KEY_ID": "", "AWS_SECRET_ACCESS_KEY": "", "AWS_EC2_METADATA_DISABLED": "true",
			"AWS_CONFIG_FILE": none, "AWS_SHARED_CREDENTIALS_FILE": none,
		} {
			t.Setenv(name, value)
		}
		b, err := bucket.Open(t.Context(), bucket.Config{Bucket: store.FakeBucket, Endpoint: url, PathStyle: true, Backoff: time.Millisecond})
		must.OK(t, err)
		err = b.Probe(t.Context())
		says(t, err, "there are no credentials", "AWS_ACCESS_KEY_ID")
	})
	t.Run("no region", func(t *testing.T) {
		store.SetCredentials(t)
		t.Setenv("AWS_REGION", "")
		_, err := bucket.Open(t.Context(), bucket.Config{Bucket: store.FakeBucket})
		says(t, err, "its region is not known", "AWS_REGION")
	})
	t.Run("certificate", func(t *testing.T) {
		s := httptest.NewUnstartedServer(store.NewProxy(t, url))
		s.Config.ErrorLog = log.New(io.Discard, "", 0) // of the client that goes away
		s.StartTLS()
		defer s.Close()
		says(t, open(t, s.URL).Create(t.Context(), "tls", source("x")), "the store's certificate is not trusted", "AWS_CA_BUNDLE")
		authority := filepath.Join(t.TempDir(), "ca.pem")
		must.OK(t, os.WriteFile(authority, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: s.Certificate().Raw}), 0o600))
		t.Setenv("AWS_CA_BUNDLE", authority)
		b, err := bucket.Open(t.Context(), bucket.Config{Bucket: store.FakeBucket, Endpoint: s.URL, PathStyle: true})
		must.OK(t, err)
		must.OK(t, b.Create(t.Context(), "tls", source("x")))
		if got := content(t, b, "tls"); got != "x" {
			t.Errorf("by HTTPS it has %q", got)
		}
	})
	t.Run("clock", func(t *testing.T) {
		proxy := store.NewProxy(t, url)
		proxy.Play(func(store.Request) *store.Fault { return store.Skewed })
		says(t, open(t, proxy.URL).Create(t.Context(), "a", source("x")), "clock", "set the clock")
	})
}

func says(t *testing.T, err error, words, next string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) || !strings.Contains(hint.Of(err), next) {
		t.Errorf("it says %v, hint %q; wanted %q and %q", err, hint.Of(err), words, next)
	}
}

// TestCount pins that each try is counted, by what came of it.
func TestCount(t *testing.T) {
	proxy := store.NewProxy(t, store.Fake(t, store.FakeOptions{}))
	var mu sync.Mutex
	counts := map[string]int{}
	b := open(t, proxy.URL, func(c *bucket.Config) {
		c.Count = func(request, outcome string) {
			mu.Lock()
			defer mu.Unlock()
			counts[request+" "+outcome]++
		}
	})
	proxy.At(1, store.SlowDown)
	must.OK(t, b.Create(t.Context(), "a", source("x")))
	content(t, b, "none")
	must.OK(t, want(fs.ErrExist, b.Create(t.Context(), "a", source("x"))))
	proxy.At(1, store.LostBefore)
	_, err := b.Put(t.Context(), "a", []byte("x"))
	must.OK(t, err)
	got := fmt.Sprint(counts)
	if got != "map[GetObject absent:1 PutObject lost:1 PutObject ok:2 PutObject throttled:1 PutObject unmet:1]" {
		t.Error(got)
	}
}
