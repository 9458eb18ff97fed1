// SPDX-License-Identifier: AGPL-3.0-or-later

package after

import (
	"cmp"
	"time"

	"github.com/lirios/ostree-upload/internal/config"
	"github.com/lirios/ostree-upload/internal/deltas"
)

// Deltas are the static deltas that the entries of the configuration ask for, all
// together: whatever one of them does not ask for, another one may.
type Deltas struct {
	Keeper   *deltas.Keeper
	Settings deltas.Settings
	Work     string // the name of the first entry, "" if there is none
}

// deltaTimeout is how long one delta may take.
const deltaTimeout = 6 * time.Hour

// DeltasOf collects what the entries of a configuration ask for. Where they differ in how,
// the largest number counts.
func DeltasOf(works []config.After, k *deltas.Keeper, minFree int64) Deltas {
	d := Deltas{Keeper: k, Settings: deltas.Settings{MinFree: minFree}}
	s := &d.Settings
	for _, w := range works {
		if w.Kind != config.AfterDeltas {
			continue
		}
		d.Work = cmp.Or(d.Work, w.Name)
		refs := w.Refs
		if refs == nil {
			refs = []string{"**"}
		}
		s.Rules = append(s.Rules, deltas.Rule{Refs: refs, From: w.Deltas.From})
		s.AtOnce = max(s.AtOnce, w.Deltas.AtOnce)
		s.Keep = max(s.Keep, time.Duration(w.Deltas.Keep))
		s.MaxBsdiff = max(s.MaxBsdiff, uint32(w.Deltas.MaxBsdiff/1e6))
		s.Timeout = max(s.Timeout, time.Duration(cmp.Or(time.Duration(w.Timeout), deltaTimeout)))
	}
	return d
}
