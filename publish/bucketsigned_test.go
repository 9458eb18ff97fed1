// SPDX-License-Identifier: AGPL-3.0-or-later

package publish_test

import (
	"fmt"
	"os/exec"
	"testing"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/wire"
	"github.com/lirios/ostree-upload/test/gpg"
	"github.com/lirios/ostree-upload/test/must"
	ts "github.com/lirios/ostree-upload/test/server"
	"github.com/lirios/ostree-upload/test/store"
)

// The summary in a bucket is signed after each publish, also by another server, and
// ostree takes it from there. What somebody else signs stays his.
func TestSignedSummaryInBucket(t *testing.T) {
	repo, c := build(t, "one", "two", "three")
	store.SetCredentials(t)
	k, url := gpg.New(t), store.Fake(t, store.FakeOptions{})
	s, other := ts.StartAt(t, url, store.FakeBucket), ts.StartAt(t, url, store.FakeBucket)
	s.Change(signing(k, 0, config.SummaryAuto))
	other.Change(signing(k, 0, config.SummaryAuto))
	from := fmt.Sprintf("%s/%s/%s", url, store.FakeBucket, ts.Prefix)
	client, stranger := k.Client(from, 0, "gpg-verify=false", "gpg-verify-summary=true"), k.Client(from, 1, "gpg-verify=false", "gpg-verify-summary=true")
	old := ""
	for i, server := range []*ts.Server{s, other, s} {
		want(t, server.Client(server.Token).Push(repo, wire.Ref{Ref: "x", Old: old, New: c[i].String()}), wire.Published, "", "")
		old = c[i].String()
		must.OSTree(t, "pull", "--repo="+client, "prod", "x")
		if got := must.OSTree(t, "rev-parse", "--repo="+client, "prod:x"); got != old {
			t.Errorf("a client that verifies the summary gets %s, not %s", got, old)
		}
	}
	if exec.Command("ostree", "pull", "--repo="+stranger, "prod", "x").Run() == nil {
		t.Error("a client that trusts another key gets it")
	}
	s.Change(signing(k, 1, config.SummaryAuto)) // the server's own signature, and another key
	must.OK(t, s.Publisher.RepairSummary(t.Context()))
	must.OSTree(t, "pull", "--repo="+stranger, "prod", "x")
}

// A signature that is lost or of an older summary is made anew without a push, and one of
// somebody else stays.
func TestSignatureInBucketIsRepaired(t *testing.T) {
	repo, c := build(t, "one")
	store.SetCredentials(t)
	k, url := gpg.New(t), store.Fake(t, store.FakeOptions{})
	s := ts.StartAt(t, url, store.FakeBucket)
	s.Change(signing(k, 0, config.SummaryAuto))
	want(t, s.Client(s.Token).Push(repo, wire.Ref{Ref: "x", New: c[0].String()}), wire.Published, "", "")
	pulls := func() error {
		reader := k.Client(fmt.Sprintf("%s/%s/%s", url, store.FakeBucket, ts.Prefix), 0, "gpg-verify=false", "gpg-verify-summary=true")
		return exec.Command("ostree", "pull", "--repo="+reader, "prod", "x").Run()
	}
	for name, spoil := range map[string]func(){
		"lost":    func() { must.OK(t, s.Bucket().Delete(t.Context(), "summary.sig", "")) },
		"no pair": s.MakeSummary,
	} {
		spoil()
		if pulls() == nil {
			t.Errorf("%s: it is not spoilt", name)
		}
		must.OK(t, s.Publisher.RepairSummary(t.Context()))
		if err := pulls(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	foreign := []byte("signed by somebody else")
	_, err := s.Bucket().Put(t.Context(), "summary.sig", foreign)
	must.OK(t, err)
	must.OK(t, s.Publisher.RepairSummary(t.Context()))
	if now, _, err := s.Bucket().Get(t.Context(), "summary.sig", 1<<20); err != nil || string(now) != string(foreign) {
		t.Errorf("another's signature is %q, %v", now, err)
	}
}
