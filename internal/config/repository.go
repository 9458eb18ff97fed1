// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"path/filepath"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/units"
)

// What becomes of the repository's summary file when a session is published.
const (
	SummaryAuto   = "auto"   // regenerate one that is there and may be touched, or that is to be signed
	SummaryAlways = "always" // regenerate it
	SummaryNever  = "never"  // leave it alone
)

// Repository is a repository that is served, and what holds for it alone.
type Repository struct {
	Name    string  // the first part of its paths; "" for the only one, which has none
	Repo    string  // path of the production repository, or s3://BUCKET/PREFIX: see InBucket
	State   string  // state folder; "" for the one inside the repository
	S3      S3      // where the store of a bucket is
	Summary string  // SummaryAuto, SummaryAlways or SummaryNever
	Keep    []Keep  // the first that concerns a ref counts; nil: the server removes nothing
	Sign    Sign    // what summary and commits are signed with
	After   []After // works that follow a publish besides the summary, in their order

	CheckCommand []string // a program without whose consent nothing is published; nil for none
	CheckTimeout units.Duration
	Policy       []Policy // who has to have signed what is published
}

func defaultRepository(repo string) Repository {
	return Repository{Repo: repo, Summary: SummaryAuto, CheckTimeout: defaultCheckTimeout}
}

// StateFolder is where the server keeps what is not yet published: State, or
// .ostree-upload inside Repo. Inside, because import is then a hard link.
func (r *Repository) StateFolder() string {
	if r.State != "" {
		return r.State
	}
	return filepath.Join(r.Repo, ".ostree-upload")
}

// repositoryForm has the keys of a Repository.
type repositoryForm struct {
	Repo    yaml.Node   `yaml:"repo"`
	State   yaml.Node   `yaml:"state"`
	S3      s3Form      `yaml:"s3"`
	Summary yaml.Node   `yaml:"summary"`
	Keep    []keepForm  `yaml:"keep"`
	Sign    signForm    `yaml:"sign"`
	After   []afterForm `yaml:"after"`

	CheckCommand yaml.Node    `yaml:"check-command"`
	CheckTimeout yaml.Node    `yaml:"check-timeout"`
	Policy       []policyForm `yaml:"policy"`
}

func (p *parser) repository(form *repositoryForm, r *Repository) {
	parsed(p, &form.Repo, "repo", &r.Repo, parseRepo)
	p.text(&form.State, "state", &r.State)
	p.s3(&form.S3, &r.S3)
	p.oneOf(&form.Summary, "summary", &r.Summary, SummaryAuto, SummaryAlways, SummaryNever)
	r.Keep = p.keeps(form.Keep)
	p.sign(&form.Sign, &r.Sign)
	r.After = p.after(form.After)
	p.check(form, r)
	r.Policy = p.policies(form.Policy)
}
