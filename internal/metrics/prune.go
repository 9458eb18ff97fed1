// SPDX-License-Identifier: AGPL-3.0-or-later

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// pruned is what is told of the runs that remove what is not to be kept.
type pruned struct {
	runs           *prometheus.CounterVec
	objects, bytes prometheus.Counter
	last           prometheus.Gauge
}

func (m *Metrics) addPruning() {
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help})
	}
	m.pruned = pruned{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "prune_runs_total", Help: "Runs that remove what is not to be kept, and whether they were done or failed.",
		}, []string{"outcome"}),
		objects: counter("pruned_objects_total", "Objects that such runs removed, commits included."),
		bytes:   counter("pruned_bytes_total", "Bytes that they freed, static deltas included."),
		last: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "prune_last_run_timestamp_seconds", Help: "When the last one was done; 0 if none was since the start.",
		}),
	}
	for _, outcome := range []string{"done", "failed"} { // there before the first
		m.pruned.runs.WithLabelValues(outcome)
	}
	m.register.MustRegister(m.pruned.runs, m.pruned.objects, m.pruned.bytes, m.pruned.last)
}

// Pruned notes a run: how much it removed, also if it failed after that.
func (m *Metrics) Pruned(done bool, objects, bytes int64, at time.Time) {
	m.pruned.objects.Add(float64(objects))
	m.pruned.bytes.Add(float64(bytes))
	if !done {
		m.pruned.runs.WithLabelValues("failed").Inc()
		return
	}
	m.pruned.runs.WithLabelValues("done").Inc()
	m.pruned.last.Set(unix(at))
}
