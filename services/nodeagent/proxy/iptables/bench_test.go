package iptables_test

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
)

// many makes services of three backends each.
func many(n int) proxy.State {
	state := proxy.State{}
	for i := range n {
		s := proxy.Service{
			Key:        proxy.Key{Namespace: fmt.Sprintf("ns-%d", i%50), Name: fmt.Sprintf("service-%d", i), PortName: "http", Protocol: proxy.TCP},
			ClusterIPs: []netip.Addr{netip.AddrFrom4([4]byte{172, 30, byte(i >> 8), byte(i)})},
			Port:       80,
		}
		for b := range 3 {
			n := 3*i + b
			s.ClusterBackends = append(s.ClusterBackends, proxy.Backend{Addr: netip.AddrFrom4([4]byte{10, 129, byte(n >> 8), byte(n)}), Port: 8080})
		}
		s.ExternalBackends = s.ClusterBackends
		state[s.Key] = s
	}
	return state
}

// benchNode is the node of the benchmarks.
func benchNode() proxy.Node {
	return proxy.Node{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}}
}

// eachSize runs a benchmark for both kinds of iptables and several numbers of services,
// on a node that has none yet. It runs in the node's namespace.
func eachSize(b *testing.B, run func(b *testing.B, e *iptables.Engine, state proxy.State)) {
	for _, program := range backends() {
		for _, services := range []int{10, 1000, 5000} {
			b.Run(fmt.Sprintf("%s/services=%d", program, services), func(b *testing.B) {
				proctest.Need(b, program)
				ns := netnstest.New(b, "node")
				state := many(services)
				ns.Do(b, func() { run(b, engine(b, benchNode(), program), state) })
			})
		}
	}
}

// BenchmarkFullLoad puts all services onto an empty node.
func BenchmarkFullLoad(b *testing.B) {
	eachSize(b, func(b *testing.B, e *iptables.Engine, state proxy.State) {
		for b.Loop() {
			if _, err := e.Sync(b.Context(), state); err != nil {
				b.Fatal(err)
			}
			b.StopTimer()
			if err := e.Cleanup(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// BenchmarkOneChange takes one backend from one service and gives it back, by turns.
func BenchmarkOneChange(b *testing.B) {
	eachSize(b, func(b *testing.B, e *iptables.Engine, state proxy.State) {
		if _, err := e.Sync(b.Context(), state); err != nil {
			b.Fatal(err)
		}
		full := many(1)[proxy.Key{Namespace: "ns-0", Name: "service-0", PortName: "http", Protocol: proxy.TCP}]
		less := full
		less.ClusterBackends = full.ClusterBackends[:2]
		less.ExternalBackends = less.ClusterBackends
		turns := []proxy.Service{less, full}
		n := 0
		for b.Loop() {
			s := turns[n%2]
			n++
			if err := e.Apply(b.Context(), proxy.Change{Key: s.Key, Service: &s}); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkRestart starts an engine on a node where nothing differs.
func BenchmarkRestart(b *testing.B) {
	eachSize(b, func(b *testing.B, e *iptables.Engine, state proxy.State) {
		if _, err := e.Sync(b.Context(), state); err != nil {
			b.Fatal(err)
		}
		for b.Loop() {
			changes, err := e.Sync(b.Context(), state)
			if err != nil || !changes.None() {
				b.Fatalf("got %+v, error %v", changes, err)
			}
		}
	})
}
