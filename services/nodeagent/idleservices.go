package nodeagent

import (
	"context"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/damask-sdn/damask/internal/serviceview"
	"github.com/damask-sdn/damask/services/nodeagent/idle"
	"github.com/damask-sdn/damask/services/nodeagent/svcsync"
)

// gate holds connections to idle services for svcsync (package idle).
type gate struct{ *idle.Gate }

// Hold is svcsync's call.
func (g gate) Hold(ctx context.Context, service serviceview.Name, frontends []svcsync.Frontend) error {
	return g.Gate.Hold(ctx, service, idleFrontends(frontends))
}

// Sync is svcsync's call.
func (g gate) Sync(ctx context.Context, held map[serviceview.Name][]svcsync.Frontend) error {
	all := make(idle.Services, len(held))
	for name, frontends := range held {
		all[name] = idleFrontends(frontends)
	}
	return g.Gate.Sync(ctx, all)
}

func idleFrontends(frontends []svcsync.Frontend) []idle.Frontend {
	all := make([]idle.Frontend, 0, len(frontends))
	for _, f := range frontends {
		all = append(all, idle.Frontend(f))
	}
	return all
}

// metrics answers what the gate counts.
func (g gate) metrics() []prometheus.Collector {
	gauge := func(name, help string, value func(idle.Stats) int) prometheus.Collector {
		return prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "damask_node_idle_" + name, Help: help},
			func() float64 { return float64(value(g.Stats())) })
	}
	counter := func(name, help string, value func(idle.Stats) uint64) prometheus.Collector {
		return prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "damask_node_idle_" + name, Help: help},
			func() float64 { return float64(value(g.Stats())) })
	}
	return []prometheus.Collector{
		gauge("services", "Services that are idle now.", func(s idle.Stats) int { return s.Services }),
		gauge("packets_waiting", "Packets that wait for idle services now.", func(s idle.Stats) int { return s.Waiting }),
		counter("packets_held_total", "Packets that had to wait.", func(s idle.Stats) uint64 { return s.Held }),
		counter("packets_released_total", "Packets that went on to their service.", func(s idle.Stats) uint64 { return s.Released }),
		counter("packets_dropped_total", "Packets that waited too long, or for which there was no room.", func(s idle.Stats) uint64 { return s.Dropped }),
	}
}
