// SPDX-License-Identifier: AGPL-3.0-or-later

//go:build cgo

package crash

import (
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/must"
	"github.com/lirios/ostree-upload/test/site"
)

// The same as TestServerPoints, with the repository in a bucket. Here and in what follows
// no ref moves before all that it is to name is there.
func TestBucketPoints(t *testing.T) {
	t.Parallel()
	c := site.NewInBucket(t)
	site.EveryMishap(t, c.Record(false), slices.Concat(site.Kills, site.Errnos), 4, func(t *testing.T, f *site.Mishap) {
		c.Play(t, f).Run()
	})
}

// The server is killed before and after each of its requests to the store: a restart, and
// perhaps the same push again, publish all of it, and meanwhile no ref names an
// incomplete commit.
func TestKilledRequestPoints(t *testing.T) {
	t.Parallel()
	c := site.NewInBucket(t)
	site.EveryMishap(t, c.Requests(t), site.Kills, 5, func(t *testing.T, f *site.Mishap) {
		p := c.Play(t, f)
		p.StartFailing()
		p.Publish()
		p.Finish()
	})
}

// One request to the store fails, has its answer cut or lost, before or after its effect:
// the push does not notice.
func TestFailedRequestPoints(t *testing.T) {
	t.Parallel()
	c := site.NewInBucket(t)
	site.EveryMishap(t, c.Requests(t), site.Faults(), 6, func(t *testing.T, f *site.Mishap) {
		p := c.Play(t, f)
		p.StartFailing()
		e := <-p.Client()
		e.Must(t, 0)
		p.Finish()
	})
}

// A store that nobody reaches: pushes are staged until the disk has no room, and their
// clients and the sessions say what they wait for. When it is back, all that came is
// published.
func TestStoreDown(t *testing.T) {
	t.Parallel()
	p := site.NewInBucket(t).Play(t, &site.Mishap{})
	p.StartFailing()
	p.Bucket.Faults.Down()
	first := p.Client()
	must.Wait(t, "the push waits for the store", func() bool {
		list := p.Sessions(wire.Verifying)
		return len(list) == 1 && strings.Contains(list[0].Detail, "object store")
	})
	// Another one is received as well, as far as the store need not be asked.
	other := site.Small(t, "apps/other", "other")
	push := site.Background(t, p.Command("push", "--json", "--repo", other.Repo, "--retry-for", must.Patience.String()))
	must.Wait(t, "another push waits", func() bool {
		return len(p.Sessions(wire.Verifying)) == 2
	})
	rewrite(t, p.Config(), "min-free-space: 0", "min-free-space: 100000TB")
	must.Wait(t, "the server knows of the limit", func() bool {
		return strings.Contains(p.Server.Log.String(), "configuration read again")
	})
	late := site.Small(t, "apps/late", "late")
	if e := p.Site.Run("push", "--repo", late.Repo, "--retry-for", "0s"); e.Exit == 0 || !strings.Contains(e.Stderr, "min-free-space") {
		t.Errorf("without room a push exits %d and says %s", e.Exit, e.Stderr)
	}
	p.Bucket.Faults.Play(nil)
	if e := <-first; e.Exit != 0 {
		p.Publish()
	}
	if e := push(); e.Exit != 0 {
		p.Site.Run("push", "--repo", other.Repo).Must(t, 0)
	}
	rewrite(t, p.Config(), "min-free-space: 100000TB", "min-free-space: 0")
	must.Wait(t, "there is room again", func() bool { return p.Site.Run("push", "--repo", late.Repo).Exit == 0 })
	must.OK(t, p.Server.Stop())
	p.Start()
	p.Look()
	for _, b := range []*site.Build{other, late} {
		p.AtHead(b.Ref, b.Commit)
	}
	must.OK(t, p.Server.Stop())
	p.Twin.Sound(p.Site, "after the store was down")
	p.Twin.Arrived(p.Site)
}

// rewrite replaces a text in a file.
func rewrite(t *testing.T, path, from, to string) {
	t.Helper()
	b, err := os.ReadFile(path)
	must.OK(t, err)
	text := strings.Replace(string(b), from, to, 1)
	if text == string(b) {
		t.Fatalf("%s has no %q", path, from)
	}
	must.OK(t, os.WriteFile(path, []byte(text), 0o600))
}
