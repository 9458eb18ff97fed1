// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"strings"
	"testing"

	"github.com/lirios/ostree-upload/internal/hint"
	"github.com/lirios/ostree-upload/test/must"
)

func TestBuckets(t *testing.T) {
	c, err := Parse([]byte(`
repositories:
  os:     {repo: /srv/os}
  apps:   {repo: "s3://repo.example.org/flatpak/apps/", state: /srv/apps, s3: {endpoint: "https://s3.example.org:9000/", path-style: true}}
  mirror: {repo: "s3://repo.example.org/flatpak/apps", state: /srv/mirror}
  all:    {repo: "s3://all-of-it", state: /srv/all}
`))
	must.OK(t, err)
	want := []Bucket{
		{},
		{"repo.example.org", "flatpak/apps", S3{"https://s3.example.org:9000", true}},
		{"repo.example.org", "flatpak/apps", S3{}},
		{"all-of-it", "", S3{}},
	}
	for i, r := range c.Served() {
		if got, is := r.InBucket(); got != want[i] || is != (i > 0) {
			t.Errorf("%s: %+v, %v", r.Repo, got, is)
		}
	}
}

// TestBucketsRefused pins what is told with its line, as what one place of a file lacks.
func TestBucketsRefused(t *testing.T) {
	for text, want := range map[string]string{
		"repo: gs://bucket/os":     "line 1: repo: a repository is a folder or s3://BUCKET/PREFIX, and cannot begin with gs://",
		"repo: s3://":              `"" is not the name of a bucket`,
		"repo: s3://My_Bucket/os":  `"My_Bucket" is not the name of a bucket`,
		"repo: s3://bucket//os":    `"/os" is not a prefix in a bucket`,
		"repo: s3://bucket/os/../": `"os/.." is not a prefix in a bucket`,
		"repo: s3://bucket/a b":    `"a b" is not a prefix in a bucket`,

		"s3: {endpoint: s3.example.org}":                                           "line 1: s3.endpoint: \"s3.example.org\" is not the URL of a store",
		"s3: {endpoint: \"https://k:s@host\"}":                                     "s3.endpoint: has a user: credentials come from",
		"s3: {endpoint: \"https://host/bucket\"}":                                  "needs no more than a host and a port",
		"s3: {path-style: perhaps}":                                                "line 1: s3.path-style",
		"s3: {region: x}":                                                          `unknown key "region"`,
		"repositories: {a: {repo: \"s3://bucket\"}}":                               "repositories.a.repo: state: is needed with repo: s3://bucket",
		"repositories: {a: {repo: /a, s3: {path-style: true}}}":                    "repositories.a.repo: s3: says where a bucket is, and repo: /a is a folder",
		"repositories: {a: {repo: \"s3://bucket\", state: \"s3://bucket/state\"}}": "needs a folder of this machine",
		"repositories: {a: {repo: \"s3://bucket/a\", state: /a}, b: {repo: \"s3://bucket/a/\", state: /b}}":     "line 1: repositories.b.repo: s3://bucket/a/ is a folder of repository a already",
		"repositories: {a: {repo: \"s3://bucket/a\", state: /a}, b: {repo: \"s3://bucket/b\", state: /x/../a}}": "repositories.b.state: /x/../a is a folder of repository a already",
	} {
		if _, err := Parse([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v\nwant %s", text, err, want)
		}
	}
}

// TestBucketFromFlags pins that file and flags may share what a repository needs.
func TestBucketFromFlags(t *testing.T) {
	c, err := Parse([]byte("s3: {endpoint: http://127.0.0.1:9000}"))
	must.OK(t, err)
	if err := c.Repository.Check(); err == nil || !strings.Contains(err.Error(), "s3: says where a bucket is") {
		t.Errorf("with a repository on the disk: %v", err)
	}
	c.Repo = "s3://bucket/os" // a flag
	if err := c.Repository.Check(); err == nil || !strings.Contains(err.Error(), "state: is needed") || hint.Of(err) == "" {
		t.Errorf("without a state folder: %v", err)
	}
	c.State = "/srv/state"
	must.OK(t, c.Repository.Check())
	c.Repo = "https://bucket"
	if err := c.Repository.Check(); err == nil || !strings.Contains(err.Error(), "cannot begin with https://") {
		t.Errorf("with a URL of another kind: %v", err)
	}
}
