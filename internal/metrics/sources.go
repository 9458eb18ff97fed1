// SPDX-License-Identifier: AGPL-3.0-or-later

package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Sources give what of a repository is read at each scrape.
type Sources struct {
	Healthy  func() bool
	Sessions func() map[string]int // by state
	Store    func() Store
	Disks    func() []Disk
	MinFree  func() float64 // bytes that uploads leave free
	Works    func() []Work
	Tokens   func() []Token
}

// ProcessSources give what of a process is read at each scrape.
type ProcessSources struct {
	Connections func() int
	Certificate func() time.Time // its end; nil: there is none
	Down        func() []string  // repositories that cannot be used; nil: it serves one
}

const healthyHelp = "1 while the repository and the journal can be used, as /healthz tells."

// WatchProcess adds what sources give. It is called once.
func (m *Metrics) WatchProcess(s ProcessSources) {
	m.gauge("connections", "Connections that clients have open.", func(set set) { set(float64(s.Connections())) })
	if s.Certificate != nil {
		m.gauge("certificate_expiry_timestamp_seconds", "When the certificate that is in use ends.", func(set set) { set(unix(s.Certificate())) })
	}
	if s.Down != nil {
		m.gauge("healthy", healthyHelp, func(set set) {
			for _, name := range s.Down() {
				set(0, name)
			}
		}, "repository")
	}
}

// Store is how uploads do; the sums count from the start of the server.
type Store struct {
	Received, Verified, Rejected float64 // in all
	Uploads, Unsent              float64 // that are not whole, and their bytes that have not come
	Waiting, Working             float64 // whole uploads that wait for their verification, and that are in it
}

// Disk is what is left on the file system of a folder.
type Disk struct {
	Folder       string
	Free, Inodes float64 // inodes are negative where the file system makes them as needed
}

// Work is what is to follow a publish.
type Work struct {
	Name  string
	Since time.Time
	Tries int // that failed
}

// Token is one of the configuration.
type Token struct {
	Name             string
	LastUse, Expires time.Time // zero: never
}

// mostTokens bounds the series of tokens.
const mostTokens = 1000

// Watch adds what sources give. It is called once.
func (m *Metrics) Watch(s Sources) {
	m.counter("received_bytes_total", "Bytes of uploads that came.", func() float64 { return s.Store().Received })
	m.counter("objects_verified_total", "Objects that came and are what their names say.", func() float64 { return s.Store().Verified })
	m.counter("objects_rejected_total", "Objects that came and were refused: damaged, not of the strict form, or too large.", func() float64 { return s.Store().Rejected })
	m.gauge("uploads", "Uploads that are not whole and verified yet.", func(set set) { set(s.Store().Uploads) })
	m.gauge("uploads_unsent_bytes", "Bytes of uploads that were announced and have not come.", func(set set) { set(s.Store().Unsent) })
	m.gauge("ingest_uploads", "Whole uploads that wait for their verification, or are in it.", func(set set) {
		now := s.Store()
		set(now.Waiting, "waiting")
		set(now.Working, "working")
	}, "stage")
	m.gauge("healthy", healthyHelp, func(set set) {
		if s.Healthy() {
			set(1)
		} else {
			set(0)
		}
	})
	m.gauge("sessions", "Sessions that the journal has, by state.", func(set set) {
		for state, n := range s.Sessions() {
			set(float64(n), state)
		}
	}, "state")
	m.watchDisks(s)
	m.watchWorks(s)
	m.watchTokens(s)
}

func (m *Metrics) watchDisks(s Sources) {
	m.gauge("disk_free_bytes", "Bytes that are free on the file system of the state folder, and on that of a repository that is not in a bucket.", func(set set) {
		for _, d := range s.Disks() {
			set(d.Free, d.Folder)
		}
	}, "folder")
	m.gauge("disk_free_inodes", "Inodes that are free there, where the file system counts them.", func(set set) {
		for _, d := range s.Disks() {
			if d.Inodes >= 0 {
				set(d.Inodes, d.Folder)
			}
		}
	}, "folder")
	m.gauge("disk_min_free_bytes", "Bytes that uploads leave free (limits.min-free-space).", func(set set) { set(s.MinFree()) })
}

func (m *Metrics) watchWorks(s Sources) {
	m.gauge("works_due", "Works that are to follow a publish and are not done.", func(set set) {
		for _, w := range s.Works() {
			set(1, w.Name)
		}
	}, "work")
	m.gauge("work_due_since_timestamp_seconds", "Since when such a work is due.", func(set set) {
		for _, w := range s.Works() {
			set(unix(w.Since), w.Name)
		}
	}, "work")
	m.gauge("work_failed_tries", "Tries of such a work that failed.", func(set set) {
		for _, w := range s.Works() {
			set(float64(w.Tries), w.Name)
		}
	}, "work")
}

func (m *Metrics) watchTokens(s Sources) {
	times := func(of func(Token) time.Time) func(set) {
		return func(set set) {
			all := s.Tokens()
			for _, t := range all[:min(len(all), mostTokens)] {
				if at := of(t); !at.IsZero() {
					set(unix(at), t.Name)
				}
			}
		}
	}
	m.gauge("token_last_use_timestamp_seconds", "When a token of the configuration was last used, if it ever was.", times(func(t Token) time.Time { return t.LastUse }), "token")
	m.gauge("token_expiry_timestamp_seconds", "When a token of the configuration ends, if it does.", times(func(t Token) time.Time { return t.Expires }), "token")
}

func unix(t time.Time) float64 { return float64(t.UnixMilli()) / 1000 }

// set gives a gauge one value, with the values of its labels.
type set func(v float64, labels ...string)

func (m *Metrics) counter(name, help string, read func() float64) {
	m.register.MustRegister(prometheus.NewCounterFunc(prometheus.CounterOpts{Namespace: namespace, Name: name, Help: help}, read))
}

// gauge adds one that has at each scrape the values that read sets then.
func (m *Metrics) gauge(name, help string, read func(set), labels ...string) {
	m.register.MustRegister(&gauge{prometheus.NewDesc(prometheus.BuildFQName(namespace, "", name), help, labels, nil), read})
}

type gauge struct {
	desc *prometheus.Desc
	read func(set)
}

// Describe implements prometheus.Collector.
func (g *gauge) Describe(to chan<- *prometheus.Desc) { to <- g.desc }

// Collect implements prometheus.Collector.
func (g *gauge) Collect(to chan<- prometheus.Metric) {
	g.read(func(v float64, labels ...string) {
		metric, err := prometheus.NewConstMetric(g.desc, prometheus.GaugeValue, v, labels...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(g.desc, err)
		}
		to <- metric
	})
}
