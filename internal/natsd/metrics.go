package natsd

import (
	"errors"

	"github.com/nats-io/nats-server/v2/server"
	"github.com/prometheus/client_golang/prometheus"
)

// Healthy says why the server cannot serve its store, or nil. In a cluster
// that is also while it has not caught up with the others.
func (s *Server) Healthy() error {
	varz, err := s.server.Varz(nil)
	if err != nil {
		return err
	}
	if varz.JetStream.Stats == nil {
		return errors.New("JetStream is off")
	}
	if s.server.JetStreamIsClustered() && !s.server.JetStreamIsCurrent() {
		return errors.New("the store is not current with the cluster")
	}
	return nil
}

// number is one metric and how it is read.
type number struct {
	kind prometheus.ValueType
	read func(*server.Varz) float64
}

func numbers() map[*prometheus.Desc]number {
	describe := func(name, help string) *prometheus.Desc {
		return prometheus.NewDesc("damask_nats_"+name, help, nil, nil)
	}
	return map[*prometheus.Desc]number{
		describe("connections", "Clients connected now."): {
			prometheus.GaugeValue, func(v *server.Varz) float64 { return float64(v.Connections) }},
		describe("routes", "Connections to other servers of the cluster."): {
			prometheus.GaugeValue, func(v *server.Varz) float64 { return float64(v.Routes) }},
		describe("subscriptions", "Subscriptions of all clients."): {
			prometheus.GaugeValue, func(v *server.Varz) float64 { return float64(v.Subscriptions) }},
		describe("slow_consumers_total", "Clients cut off because they read too slowly."): {
			prometheus.CounterValue, func(v *server.Varz) float64 { return float64(v.SlowConsumers) }},
		describe("messages_received_total", "Messages from clients."): {
			prometheus.CounterValue, func(v *server.Varz) float64 { return float64(v.InMsgs) }},
		describe("messages_sent_total", "Messages to clients."): {
			prometheus.CounterValue, func(v *server.Varz) float64 { return float64(v.OutMsgs) }},
		describe("store_bytes", "Bytes of the file store in use."): {
			prometheus.GaugeValue, func(v *server.Varz) float64 {
				if v.JetStream.Stats == nil {
					return 0
				}
				return float64(v.JetStream.Stats.Store)
			}},
	}
}

// Describe implements prometheus.Collector.
func (s *Server) Describe(descriptions chan<- *prometheus.Desc) {
	for d := range s.numbers {
		descriptions <- d
	}
}

// Collect implements prometheus.Collector.
func (s *Server) Collect(metrics chan<- prometheus.Metric) {
	varz, err := s.server.Varz(nil)
	if err != nil {
		return // never while the server lives
	}
	for d, n := range s.numbers {
		metrics <- prometheus.MustNewConstMetric(d, n.kind, n.read(varz))
	}
}
