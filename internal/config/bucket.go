// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"net/url"
	"path"
	"regexp"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/hint"
)

// S3 says where the store of a repository in a bucket is, if it is not that of AWS.
type S3 struct {
	Endpoint  string // a URL; "" for AWS
	PathStyle bool   // the bucket is in the path of URLs, not in their host
}

// Bucket is the folder of a bucket of an object store.
type Bucket struct {
	Name   string
	Prefix string // without slashes around it; "" for the whole bucket
	S3
}

// bucketScheme begins a repository that is in a bucket.
const bucketScheme = "s3://"

// InBucket tells which bucket the repository is in, false if it is on the disk.
func (r *Repository) InBucket() (Bucket, bool) {
	name, prefix, err := ParseBucket(r.Repo)
	if err != nil || name == "" {
		return Bucket{}, false
	}
	return Bucket{name, prefix, r.S3}, true
}

// Check reports what does not go together of repo, state and s3. A file may have some of
// them, and flags the others: what is served is checked.
func (r *Repository) Check() error {
	name, _, err := ParseBucket(r.Repo)
	switch {
	case err != nil:
		return fmt.Errorf("repo: %w", err)
	case name == "" && r.S3 != S3{}:
		return fmt.Errorf("s3: says where a bucket is, and repo: %s is a folder on the disk", r.Repo)
	case name != "" && r.State == "":
		return hint.Add(fmt.Errorf("state: is needed with repo: %s: what comes is staged on the local disk", r.Repo), "name a folder of this machine that stays, as state in the configuration or by --state")
	case strings.HasPrefix(r.State, bucketScheme):
		return errors.New("state: needs a folder of this machine, not one in a bucket")
	}
	return nil
}

// Names of buckets, as S3 has them for all that were made since 2018, and a part of a prefix.
var (
	bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$`)
	prefixPart = regexp.MustCompile(`^[A-Za-z0-9._-]+$`)
	scheme     = regexp.MustCompile(`^[A-Za-z][A-Za-z0-9+.-]*://`)
)

// ParseBucket reads a repository such as s3://BUCKET/PREFIX. One that is on the disk has
// the bucket "".
func ParseBucket(repo string) (bucket, prefix string, err error) {
	rest, is := strings.CutPrefix(repo, bucketScheme)
	if !is {
		if begins := scheme.FindString(repo); begins != "" {
			return "", "", fmt.Errorf("a repository is a folder or s3://BUCKET/PREFIX, and cannot begin with %s", begins)
		}
		return "", "", nil
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	prefix = strings.TrimSuffix(prefix, "/")
	if !bucketName.MatchString(bucket) {
		return "", "", fmt.Errorf("%.100q is not the name of a bucket: 3 to 63 small letters, digits, dots and hyphens, as in s3://BUCKET/PREFIX", bucket)
	}
	if prefix == "" {
		return bucket, "", nil
	}
	for _, part := range strings.Split(prefix, "/") {
		if !prefixPart.MatchString(part) || path.Clean(part) != part || part == ".." || part == "." {
			return "", "", fmt.Errorf("%.100q is not a prefix in a bucket: parts of letters, digits and any of . _ -, with a slash between them", prefix)
		}
	}
	return bucket, prefix, nil
}

// parseRepo takes a path, or the URL of a folder in a bucket.
func parseRepo(s string) (string, error) {
	_, _, err := ParseBucket(s)
	return s, err
}

// parseEndpoint reads the URL of a store.
func parseEndpoint(s string) (string, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Hostname() == "":
		return "", fmt.Errorf("%.100q is not the URL of a store such as https://s3.example.org", s)
	case u.User != nil:
		return "", errors.New("has a user: credentials come from the environment and the files of AWS")
	case u.RawQuery != "" || u.Fragment != "" || strings.Trim(u.Path, "/") != "":
		return "", fmt.Errorf("%.100q needs no more than a host and a port: the bucket stands in repo", s)
	}
	return strings.TrimSuffix(s, "/"), nil
}

// s3Form has the keys of S3.
type s3Form struct {
	Endpoint  yaml.Node `yaml:"endpoint"`
	PathStyle yaml.Node `yaml:"path-style"`
}

func (p *parser) s3(f *s3Form, s *S3) {
	parsed(p, &f.Endpoint, "s3.endpoint", &s.Endpoint, parseEndpoint)
	parsed(p, &f.PathStyle, "s3.path-style", &s.PathStyle, parseBool)
}

// place is where a repository is, as something to compare: two that have the same one
// are the same repository.
func (r *Repository) place() string {
	if b, is := r.InBucket(); is {
		return b.Endpoint + " " + b.Name + "/" + b.Prefix
	}
	return rooted(r.Repo)
}
