// SPDX-License-Identifier: AGPL-3.0-or-later

package config

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"gopkg.in/yaml.v3"

	"github.com/lirios/ostree-upload/internal/units"
)

// Deltas says which static deltas are made, and how.
type Deltas struct {
	From      []int          // so many releases back; 0: from nothing
	AtOnce    int            // how many are made at a time
	Keep      units.Duration // how long a superseded one stays
	MaxBsdiff units.Size     // up to which an old and a new file together are compared by bsdiff
}

func defaultDeltas() Deltas {
	return Deltas{From: []int{1}, AtOnce: 1, Keep: units.Duration(72 * time.Hour), MaxBsdiff: 32 << 20}
}

// mostReleases is how many releases back a delta may begin, and mostAtOnce how many
// deltas may be made at a time.
const (
	mostReleases = 100
	mostAtOnce   = 64
	mostBsdiff   = units.Size(4 << 30)
)

type deltasForm struct {
	Refs      yaml.Node `yaml:"refs"`
	From      yaml.Node `yaml:"from"`
	AtOnce    yaml.Node `yaml:"at-once"`
	Keep      yaml.Node `yaml:"keep"`
	MaxBsdiff yaml.Node `yaml:"max-bsdiff-size"`
}

func (p *parser) deltas(f *deltasForm, key string, d *Deltas) {
	*d = defaultDeltas()
	words, there := p.list(&f.From, key+": from", func(word string) error {
		_, err := parseFrom(word)
		return err
	})
	if there {
		d.From = nil
	}
	for _, word := range words {
		back, _ := parseFrom(word) // it was checked
		d.From = append(d.From, back)
	}
	if there && f.From.Kind == yaml.SequenceNode && len(f.From.Content) == 0 {
		p.errorf(&f.From, key+": from", "%w", errors.New("asks for no delta; leave the key out for those from the parent"))
	}
	slices.Sort(d.From)
	d.From = slices.Compact(d.From)
	p.count(&f.AtOnce, key+": at-once", &d.AtOnce)
	if d.AtOnce < 1 || d.AtOnce > mostAtOnce {
		p.errorf(&f.AtOnce, key+": at-once", "must be from 1 to %d", mostAtOnce)
	}
	p.duration(&f.Keep, key+": keep", &d.Keep)
	p.size(&f.MaxBsdiff, key+": max-bsdiff-size", &d.MaxBsdiff)
	if d.MaxBsdiff > mostBsdiff {
		p.errorf(&f.MaxBsdiff, key+": max-bsdiff-size", "must be at most %s", mostBsdiff)
	}
}

// parseFrom reads how many releases back a delta begins.
func parseFrom(word string) (back int, err error) {
	switch word {
	case "empty":
		return 0, nil
	case "parent":
		return 1, nil
	}
	back, err = strconv.Atoi(word)
	if err != nil || back < 1 || back > mostReleases {
		return 0, fmt.Errorf("%q is not one of parent, empty, or the number of releases back, from 1 to %d", word, mostReleases)
	}
	return back, nil
}
