package nodeagent

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
)

// metrics answers Prometheus from the parts' own counters.
type metrics struct {
	flows    *flowsync.Syncer
	plumbing *plumbing

	written, deleted, repairs, pods, installed, ready, leases *prometheus.Desc
}

func newMetrics(flows *flowsync.Syncer, p *plumbing) *metrics {
	describe := func(name, help string, labels ...string) *prometheus.Desc {
		return prometheus.NewDesc("damask_node_"+name, help, labels, nil)
	}
	return &metrics{
		flows: flows, plumbing: p,
		written:   describe("flows_written_total", "Flow additions and modifications sent to br0."),
		deleted:   describe("flows_deleted_total", "Flow deletions sent to br0."),
		repairs:   describe("repairs_total", "Differences between the node and what it should be that were repaired."),
		pods:      describe("pods", "Pods attached to this node."),
		installed: describe("flows", "Flows in br0, as last known."),
		ready:     describe("ready", "1 when pods can be added."),
		leases:    describe("addresses_free", "Addresses of the node's subnet that no pod has."),
	}
}

// Describe names the metrics.
func (m *metrics) Describe(ch chan<- *prometheus.Desc) { prometheus.DescribeByCollect(m, ch) }

// Collect answers their values.
func (m *metrics) Collect(ch chan<- prometheus.Metric) {
	written, deleted := m.flows.Counters()
	described := m.plumbing.describe()
	ready := 0.0
	if len(described.Missing) == 0 {
		ready = 1
	}
	free, _ := m.plumbing.pods.leases.Free()
	for _, v := range []struct {
		desc  *prometheus.Desc
		kind  prometheus.ValueType
		value float64
	}{
		{m.written, prometheus.CounterValue, float64(written)},
		{m.deleted, prometheus.CounterValue, float64(deleted)},
		{m.repairs, prometheus.CounterValue, float64(described.Repairs)},
		{m.pods, prometheus.GaugeValue, float64(len(m.plumbing.state.Pods()))},
		{m.installed, prometheus.GaugeValue, float64(m.flows.Size())},
		{m.ready, prometheus.GaugeValue, ready},
		{m.leases, prometheus.GaugeValue, float64(free)},
	} {
		ch <- prometheus.MustNewConstMetric(v.desc, v.kind, v.value)
	}
}
