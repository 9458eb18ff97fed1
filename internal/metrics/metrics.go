// SPDX-License-Identifier: AGPL-3.0-or-later

// Package metrics shows how the server does to Prometheus. It is the one package that
// knows of Prometheus; others give it numbers, or tell it what took how long.
//
//   - Durations are seconds, sizes bytes, points in time seconds since 1970.
//   - The values of a label are routes, states, names in the configuration and the
//     like: no client can make more of them.
//   - What is read at a scrape, is read from memory or by one call of the kernel.
//
// A Metrics may be used concurrently.
package metrics

import (
	"net/http"
	"runtime"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	dto "github.com/prometheus/client_model/go"
	"github.com/tus/tusd/v2/pkg/handler"
	"github.com/tus/tusd/v2/pkg/prometheuscollector"
)

// namespace begins the name of each metric that is our own.
const namespace = "ostree_upload"

// Metrics are those of a process, of a repository that it serves, or of both.
type Metrics struct {
	registry *prometheus.Registry
	register prometheus.Registerer // into it, with the labels that all have

	inFlight  prometheus.Gauge
	requests  *prometheus.CounterVec
	durations *prometheus.HistogramVec
	locks     *prometheus.HistogramVec
	queued    prometheus.Histogram
	published *prometheus.HistogramVec
	works     *prometheus.HistogramVec
	pruned    pruned
	store     *prometheus.CounterVec
}

// Buckets, in seconds: of requests, some of which wait for the outcome of a session for
// a minute; and of publishes, the largest of which take minutes.
var (
	requestBuckets = []float64{.005, .025, .1, .5, 1, 5, 15, 60}
	publishBuckets = []float64{.05, .1, .25, .5, 1, 2.5, 5, 15, 60, 300, 900}
)

// New makes the metrics of a process of a version that serves one repository. The
// outcomes are those of a publish that are there from the start: of what begins at 1,
// Prometheus sees no increase.
func New(version string, outcomes ...string) *Metrics {
	m := NewProcess(version)
	m.addPublishing(outcomes)
	return m
}

// NewRepository makes the metrics of one of several repositories. All have its name.
func NewRepository(name string, outcomes ...string) *Metrics {
	m := newMetrics(prometheus.Labels{"repository": name})
	m.addPublishing(outcomes)
	return m
}

// NewProcess makes the metrics of a process that serves several repositories, as far as
// they are not those of a repository.
func NewProcess(version string) *Metrics {
	m := newMetrics(nil)
	build := prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: namespace, Name: "build_info", Help: "Always 1, with what runs.",
		ConstLabels: prometheus.Labels{"version": version, "goversion": runtime.Version()},
	})
	build.Set(1)
	m.register.MustRegister(build, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// newMetrics makes those of requests.
func newMetrics(labels prometheus.Labels) *Metrics {
	m := &Metrics{
		registry: prometheus.NewRegistry(),
		inFlight: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: namespace, Name: "http_requests_in_flight", Help: "Requests that are being answered.",
		}),
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: namespace, Name: "http_requests_total", Help: "Requests that were answered, by route and status.",
		}, []string{"route", "code"}),
		durations: histograms("http_request_duration_seconds", "Time to answer a request, its body and a wait for the outcome of a session included, by route.", requestBuckets, "route"),
	}
	m.register = prometheus.WrapRegistererWith(labels, m.registry)
	m.register.MustRegister(m.inFlight, m.requests, m.durations)
	return m
}

// addPublishing adds those of publishes.
func (m *Metrics) addPublishing(outcomes []string) {
	m.locks = histograms("lock_wait_seconds", "Time that a publish waited for the repository's lock, which ostree prune takes as well.", publishBuckets, "lock")
	m.queued = prometheus.NewHistogram(prometheus.HistogramOpts{
		Namespace: namespace, Name: "publish_wait_seconds", Help: "Time from the request to finalize a session to its publish.", Buckets: publishBuckets,
	})
	m.published = histograms("publish_duration_seconds", "Time that a publish took, by its outcome.", publishBuckets, "outcome")
	for _, o := range outcomes {
		m.published.WithLabelValues(o)
	}
	m.works = histograms("work_duration_seconds", "Time that a work took that follows a publish, and whether it was done or failed.", publishBuckets, "work", "outcome")
	m.store = prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Name: "store_requests_total", Help: "Requests to the object store, each try of them, by S3's name of what they ask for and by what came of them.",
	}, []string{"request", "outcome"})
	m.register.MustRegister(m.locks, m.queued, m.published, m.works, m.store)
	m.addPruning()
}

func histograms(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	return prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Namespace: namespace, Name: name, Help: help, Buckets: buckets,
	}, labels)
}

// mostScrapes is how many scrapes are answered at a time: each takes memory.
const mostScrapes = 4

// Handler answers a scrape. What cannot be read is left out.
func (m *Metrics) Handler() http.Handler { return handlerFor(m.registry) }

// HandlerWith answers a scrape with what others give at that time, too.
func (m *Metrics) HandlerWith(others func() []*Metrics) http.Handler {
	return handlerFor(prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) {
		all := prometheus.Gatherers{m.registry}
		for _, o := range others() {
			all = append(all, o.registry)
		}
		return all.Gather()
	}))
}

func handlerFor(from prometheus.Gatherer) http.Handler {
	return promhttp.HandlerFor(from, promhttp.HandlerOpts{
		ErrorHandling: promhttp.ContinueOnError, MaxRequestsInFlight: mostScrapes,
	})
}

// Request counts a request of a route from now until it is answered with a status.
func (m *Metrics) Request(route string) (answered func(status int)) {
	began := time.Now()
	m.inFlight.Inc()
	m.requests.WithLabelValues(route, "500") // is there before the first failure, as the outcomes are
	return func(status int) {
		m.inFlight.Dec()
		m.requests.WithLabelValues(route, strconv.Itoa(status)).Inc()
		m.durations.WithLabelValues(route).Observe(time.Since(began).Seconds())
	}
}

// LockWait notes how long a publish waited for a lock of the repository.
func (m *Metrics) LockWait(lock string, took time.Duration) {
	m.locks.WithLabelValues(lock).Observe(took.Seconds())
}

// Published notes how long a session waited for its publish, how long that took, and
// what came of it.
func (m *Metrics) Published(outcome string, waited, took time.Duration) {
	m.queued.Observe(waited.Seconds())
	m.published.WithLabelValues(outcome).Observe(took.Seconds())
}

// WorkTried notes how long a try of a work took, and whether it did it.
func (m *Metrics) WorkTried(work string, done bool, took time.Duration) {
	m.works.WithLabelValues(work, "failed") // is there before the first failure
	outcome := "failed"
	if done {
		outcome = "done"
	}
	m.works.WithLabelValues(work, outcome).Observe(took.Seconds())
}

// StoreRequest counts a request to an object store, by S3's name of what it asks for.
func (m *Metrics) StoreRequest(request, outcome string) {
	m.store.WithLabelValues(request, "failed") // is there before the first failure
	m.store.WithLabelValues(request, "lost")
	m.store.WithLabelValues(request, "refused")
	m.store.WithLabelValues(request, outcome).Inc()
}

// Tus adds what tusd counts.
func (m *Metrics) Tus(counts handler.Metrics) {
	m.register.MustRegister(prometheuscollector.New(counts))
}
