package rpcguard

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/status"
)

// metrics counts calls. A nil one counts nothing.
type metrics struct {
	calls   *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	if reg == nil {
		return nil, nil
	}
	calls, err := registered(reg, prometheus.NewCounterVec(prometheus.CounterOpts{
		Name: "damask_rpc_calls_total",
		Help: "Calls answered, by method and gRPC code.",
	}, []string{"method", "code"}))
	if err != nil {
		return nil, err
	}
	seconds, err := registered(reg, prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: "damask_rpc_duration_seconds",
		Help: "Time from the arrival of a call to its answer, by method.",
		// From 100 µs, a read from memory, to 30 s, the longest deadline.
		Buckets: []float64{.0001, .00025, .0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30},
	}, []string{"method"}))
	if err != nil {
		return nil, err
	}
	return &metrics{calls: calls, seconds: seconds}, nil
}

// registered registers a collector, or answers the one that another server of
// the same process registered before.
func registered[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return c, err
}

func (m *metrics) observe(method string, err error, took time.Duration) {
	if m == nil {
		return
	}
	m.calls.WithLabelValues(method, status.Code(err).String()).Inc()
	m.seconds.WithLabelValues(method).Observe(took.Seconds())
}
