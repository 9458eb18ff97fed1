// SPDX-License-Identifier: AGPL-3.0-or-later

package bucket_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/lirios/ostree-upload/internal/bucket"
	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/store"
)

// open is the folder os of the bucket of a store, with a client that has little patience.
func open(t *testing.T, url string, change ...func(*bucket.Config)) *bucket.Bucket {
	t.Helper()
	store.SetCredentials(t)
	cfg := bucket.Config{
		Bucket: store.FakeBucket, Prefix: "os", Endpoint: url, PathStyle: true,
		Backoff: time.Millisecond, PartsAbove: 1000, PartSize: 600,
	}
	for _, c := range change {
		c(&cfg)
	}
	b, err := bucket.Open(t.Context(), cfg)
	must.OK(t, err)
	return b
}

func source(body string) bucket.Source {
	return bucket.Source{Content: strings.NewReader(body), Size: int64(len(body))}
}

// content is what an object has, "" if there is none.
func content(t *testing.T, b *bucket.Bucket, key string) string {
	t.Helper()
	body, _, err := b.Get(t.Context(), key, 10<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	must.OK(t, err)
	return string(body)
}

func TestCreate(t *testing.T) {
	b := open(t, store.Fake(t, store.FakeOptions{}))
	for _, size := range []int{0, 1, 1000, 1001, 2500} { // from 1001 on in parts
		key := "objects/" + strconv.Itoa(size)
		body := strings.Repeat("x", size)
		must.OK(t, b.Create(t.Context(), key, source(body)))
		if got := content(t, b, key); got != body {
			t.Errorf("%d bytes became %d", size, len(got))
		}
		if err := b.Create(t.Context(), key, source(body)); !errors.Is(err, fs.ErrExist) {
			t.Errorf("creating it again: %v", err)
		}
		e, err := b.Head(t.Context(), key)
		must.OK(t, err)
		if e.Size != int64(size) || e.ETag == "" || e.Key != key {
			t.Errorf("Head says %+v", e)
		}
	}
	short := bucket.Source{Content: strings.NewReader("short"), Size: 9}
	if err := b.Create(t.Context(), "short", short); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a source that is shorter than it says: %v", err)
	}
}

func TestSwap(t *testing.T) {
	b := open(t, store.Fake(t, store.FakeOptions{}))
	one, err := b.Swap(t.Context(), "refs/heads/stable", []byte("one"), "")
	must.OK(t, err)
	if _, err := b.Swap(t.Context(), "refs/heads/stable", []byte("rival"), ""); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("making it twice: %v", err)
	}
	two, err := b.Swap(t.Context(), "refs/heads/stable", []byte("two"), one)
	must.OK(t, err)
	if _, err := b.Swap(t.Context(), "refs/heads/stable", []byte("rival"), one); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("with the ETag of before: %v", err)
	}
	if again, err := b.Swap(t.Context(), "refs/heads/stable", []byte("two"), one); err != nil || again != two {
		t.Errorf("with the body that it has: %q, not %q, %v", again, two, err)
	}
	if _, err := b.Swap(t.Context(), "refs/heads/none", []byte("x"), one); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("of one that is not there: %v", err)
	}
	if got := content(t, b, "refs/heads/stable"); got != "two" {
		t.Errorf("it has %q", got)
	}
}

// TestSwapRace pins compare and swap: each of several writers adds to a number, and none
// of what they added is lost.
func TestSwapRace(t *testing.T) {
	b := open(t, store.Fake(t, store.FakeOptions{}))
	const writers, each = 8, 10
	_, err := b.Swap(t.Context(), "n", []byte("0"), "")
	must.OK(t, err)
	var all sync.WaitGroup
	for range writers {
		all.Go(func() {
			for done := 0; done < each; {
				body, etag, err := b.Get(t.Context(), "n", 100)
				if err != nil {
					t.Error(err)
					return
				}
				n, _, _ := strings.Cut(string(body), " ")
				next, _ := strconv.Atoi(n)
				// No two writers write the same bytes.
				_, err = b.Swap(t.Context(), "n", fmt.Appendf(nil, "%d %p %d", next+1, &done, done), etag)
				if err == nil {
					done++
				} else if !errors.Is(err, bucket.ErrChanged) {
					t.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	if got := content(t, b, "n"); !strings.HasPrefix(got, strconv.Itoa(writers*each)+" ") {
		t.Errorf("%d were added, it has %q", writers*each, got)
	}
}

// Who wrote an object is noted with it, until somebody else does.
func TestSwapBy(t *testing.T) {
	t.Run("fake", func(t *testing.T) { testSwapBy(t, store.Fake(t, store.FakeOptions{})) })
	t.Run("gateway", func(t *testing.T) {
		g := store.New(t)
		g.Bucket(t, store.FakeBucket)
		testSwapBy(t, g.URL)
	})
}

func testSwapBy(t *testing.T, url string) {
	b := open(t, url)
	etag := ""
	for _, by := range []string{"one", "two,one", ""} {
		var err error
		etag, err = b.SwapBy(t.Context(), by, "ref", []byte("of "+by), etag)
		must.OK(t, err)
		_, read, err := b.Read(t.Context(), "ref", 100)
		must.OK(t, err)
		head, err := b.Head(t.Context(), "ref")
		must.OK(t, err)
		if read.By != by || head.By != by {
			t.Errorf("written by %q, it says %q and %q", by, read.By, head.By)
		}
	}
}

func TestDelete(t *testing.T) {
	for name, o := range map[string]store.FakeOptions{"by match": {}, "without": {Ignores: []string{"If-Match"}}} {
		t.Run(name, func(t *testing.T) {
			b := open(t, store.Fake(t, o))
			if name == "by match" {
				must.OK(t, b.Probe(t.Context()))
			}
			if b.DeletesByMatch() != (name == "by match") {
				t.Fatalf("DeletesByMatch is %v", b.DeletesByMatch())
			}
			etag, err := b.Put(t.Context(), "lease", []byte("mine"))
			must.OK(t, err)
			if err := b.Delete(t.Context(), "lease", `"other"`); !errors.Is(err, bucket.ErrChanged) {
				t.Errorf("with another ETag: %v", err)
			}
			must.OK(t, b.Delete(t.Context(), "lease", etag))
			must.OK(t, b.Delete(t.Context(), "lease", etag)) // again
			must.OK(t, b.Delete(t.Context(), "lease", ""))
			if got := content(t, b, "lease"); got != "" {
				t.Errorf("it has %q", got)
			}
		})
	}
}

// What the store did not delete, as it had another ETag for a moment, does not count as gone.
func TestUnmetDelete(t *testing.T) {
	proxy := store.NewProxy(t, store.Fake(t, store.FakeOptions{}))
	b := open(t, proxy.URL)
	must.OK(t, b.Probe(t.Context()))
	etag, err := b.Put(t.Context(), "ref", []byte("mine"))
	must.OK(t, err)
	proxy.Play(func(r store.Request) *store.Fault {
		if r.Kind == "DeleteObject" {
			return store.Unmet
		}
		return nil
	})
	if err := b.Delete(t.Context(), "ref", etag); !errors.Is(err, bucket.ErrChanged) {
		t.Errorf("it is there, and the deletion says %v", err)
	}
}

// TestList pins that lists of several pages are whole, and only of the folder.
func TestList(t *testing.T) {
	url := store.Fake(t, store.FakeOptions{PageSize: "3"})
	b := open(t, url)
	other := open(t, url, func(c *bucket.Config) { c.Prefix = "os2" })
	_, err := other.Put(t.Context(), "refs/heads/not-mine", []byte("x"))
	must.OK(t, err)
	var want []string
	for i := range 10 {
		key := fmt.Sprintf("refs/heads/branch/%02d", i)
		want = append(want, key)
		_, err := b.Put(t.Context(), key, []byte(key))
		must.OK(t, err)
	}
	_, err = b.Put(t.Context(), "config", []byte("[core]"))
	must.OK(t, err)
	_, err = b.Put(t.Context(), "refs/heads/", nil) // a console shows a folder by it
	must.OK(t, err)
	list := func(prefix string) (keys []string) {
		must.OK(t, b.List(t.Context(), prefix, func(e bucket.Entry) error {
			keys = append(keys, e.Key)
			if e.Size == 0 || e.ETag == "" || e.Age < 0 || e.Age > time.Hour {
				t.Errorf("an entry lacks what is known: %+v", e)
			}
			return nil
		}))
		return keys
	}
	if got := list("refs/"); !slices.Equal(got, want) {
		t.Errorf("listed %q", got)
	}
	if got := list(""); !slices.Equal(got, append([]string{"config"}, want...)) {
		t.Errorf("listed %q", got)
	}
	enough := errors.New("enough")
	if err := b.List(t.Context(), "", func(bucket.Entry) error { return enough }); err != enough {
		t.Errorf("the visitor's error became %v", err)
	}
}

func TestReader(t *testing.T) {
	b := open(t, store.Fake(t, store.FakeOptions{}))
	must.OK(t, b.Create(t.Context(), "objects/a", source("content")))
	r, size, err := b.Reader(t.Context(), "objects/a")
	must.OK(t, err)
	got, err := io.ReadAll(r)
	must.OK(t, errors.Join(err, r.Close()))
	if string(got) != "content" || size != int64(len(got)) {
		t.Errorf("read %q of %d bytes", got, size)
	}
	if _, _, err := b.Reader(t.Context(), "objects/none"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("of one that is not there: %v", err)
	}
	if _, _, err := b.Get(t.Context(), "objects/a", 6); err == nil || !strings.Contains(err.Error(), "more than 6 bytes") {
		t.Errorf("of one that is larger: %v", err)
	}
}

// TestProbe pins which stores are refused, with their name, and that a probe leaves nothing.
func TestProbe(t *testing.T) {
	for name, c := range map[string]struct {
		ignores []string
		fault   string
	}{
		"all there is": {nil, ""},
		"no match":     {[]string{"If-Match"}, "ignores If-Match"},
		"no none":      {[]string{"If-None-Match"}, "ignores If-None-Match"},
	} {
		t.Run(name, func(t *testing.T) {
			b := open(t, store.Fake(t, store.FakeOptions{Ignores: c.ignores}))
			err := b.Probe(t.Context())
			if c.fault == "" {
				must.OK(t, err)
			} else if err == nil || !strings.Contains(err.Error(), c.fault) || !strings.Contains(err.Error(), `"AmazonS3" at http://127.0.0.1`) || hint.Of(err) == "" {
				t.Errorf("said %v, hint %q", err, hint.Of(err))
			}
			must.OK(t, b.List(t.Context(), "", func(e bucket.Entry) error { return errors.New("left: " + e.Key) }))
		})
	}
}

// TestParts pins that no parts are left behind, and those of a process that was killed
// can be removed.
func TestParts(t *testing.T) {
	proxy := store.NewProxy(t, store.Fake(t, store.FakeOptions{}))
	b := open(t, proxy.URL)
	body := bytes.Repeat([]byte("0123456789"), 200)
	ctx, kill := context.WithCancel(t.Context())
	proxy.At(3, store.Before(kill))
	err := b.Create(ctx, "objects/big", source(string(body)))
	if !errors.Is(err, context.Canceled) || bucket.Temporary(err) {
		t.Fatalf("it was stopped, and says %v", err)
	}
	counts := proxy.Counts()
	if counts["AbortMultipartUpload"] != 1 {
		t.Errorf("the parts were not given up: %v", counts)
	}
	proxy.Play(func(r store.Request) *store.Fault {
		if r.Kind == "AbortMultipartUpload" || r.Kind == "UploadPart" {
			return store.Denied
		}
		return nil
	})
	if err := b.Create(t.Context(), "objects/big", source(string(body))); err == nil {
		t.Fatal("it was refused, and says nothing")
	}
	proxy.Play(nil)
	n, err := b.AbandonBefore(t.Context(), time.Now().Add(-time.Hour))
	if n != 0 || err != nil {
		t.Errorf("gave up %d that are new, %v", n, err)
	}
	n, err = b.AbandonBefore(t.Context(), time.Now().Add(time.Hour))
	if n != 1 || err != nil {
		t.Errorf("gave up %d, not 1, %v", n, err)
	}
}
