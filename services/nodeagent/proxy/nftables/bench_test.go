package nftables

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

var clusterNode = proxy.Node{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}}

// manyServices are n services with a cluster IP and the same number of backends each.
// Backends are on pods of other nodes, but for those of the first and the last service,
// which are at an address.
func manyServices(n, each int, at netip.AddrPort) proxy.State {
	state := make(proxy.State, n)
	for i := range n {
		s := proxy.Service{
			Key:        proxy.Key{Namespace: "shop", Name: fmt.Sprintf("s%d", i), Protocol: proxy.TCP},
			ClusterIPs: []netip.Addr{serviceAddr(i)}, Port: 80,
		}
		for b := range each {
			s.ClusterBackends = append(s.ClusterBackends, proxy.Backend{Addr: netip.AddrFrom4([4]byte{10, byte(129 + b), byte(i >> 8), byte(i)}), Port: 8080})
		}
		if i == 0 || i == n-1 {
			s.ClusterBackends = []proxy.Backend{{Addr: at.Addr(), Port: at.Port(), Local: true}}
		}
		state[s.Key] = s
	}
	return state
}

func serviceAddr(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 30, byte(i >> 8), byte(i)}) }

var sizes = []int{10, 1000, 5000, 10000}

// onNode runs a benchmark in a fresh namespace, once with so many services.
func onNode(b *testing.B, run func(b *testing.B, e *Engine, state proxy.State)) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			proctest.Need(b, "ip")
			ns := netnstest.New(b, "node")
			state := manyServices(n, 3, netip.MustParseAddrPort("10.128.0.1:8080"))
			ns.Do(b, func() { run(b, newEngine(b, clusterNode), state) })
		})
	}
}

func mustSync(b *testing.B, e *Engine, state proxy.State) proxy.Changes {
	b.Helper()
	changes, err := e.Sync(b.Context(), state)
	if err != nil {
		b.Fatal(err)
	}
	return changes
}

// BenchmarkFullLoad programs all services into an empty kernel.
func BenchmarkFullLoad(b *testing.B) {
	onNode(b, func(b *testing.B, e *Engine, state proxy.State) {
		for b.Loop() {
			mustSync(b, e, state)
			b.StopTimer()
			if err := e.Cleanup(b.Context()); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	})
}

// BenchmarkQuietSync is the start of an agent that finds everything right.
func BenchmarkQuietSync(b *testing.B) {
	onNode(b, func(b *testing.B, e *Engine, state proxy.State) {
		mustSync(b, e, state)
		for b.Loop() {
			if changes := mustSync(b, e, state); !changes.None() {
				b.Fatalf("a sync with what is there changes %+v", changes)
			}
		}
	})
}

// BenchmarkOneChange adds a backend to one service, and takes it away.
func BenchmarkOneChange(b *testing.B) {
	onNode(b, func(b *testing.B, e *Engine, state proxy.State) {
		mustSync(b, e, state)
		small := state[proxy.Key{Namespace: "shop", Name: "s5", Protocol: proxy.TCP}]
		large := small
		large.ClusterBackends = append(slices.Clone(small.ClusterBackends), proxy.Backend{Addr: netip.MustParseAddr("10.131.9.9"), Port: 8080})
		next := []*proxy.Service{&large, &small}
		var times []time.Duration
		for i := 0; b.Loop(); i++ {
			begin := time.Now()
			if err := e.Apply(b.Context(), proxy.Change{Key: small.Key, Service: next[i%2]}); err != nil {
				b.Fatal(err)
			}
			times = append(times, time.Since(begin))
		}
		slices.Sort(times)
		b.ReportMetric(float64(times[len(times)/2].Microseconds()), "p50-µs")
		b.ReportMetric(float64(times[len(times)*99/100].Microseconds()), "p99-µs")
	})
}

// BenchmarkConnect connects to the first and to the last service in turn, from the node
// to itself.
func BenchmarkConnect(b *testing.B) {
	for _, n := range sizes {
		b.Run(fmt.Sprintf("services=%d", n), func(b *testing.B) {
			proctest.Need(b, "ip")
			ns := netnstest.New(b, "node")
			ns.Run(b, "ip", "address", "add", "10.128.0.1/14", "dev", "lo")
			ns.Run(b, "ip", "route", "add", "172.30.0.0/16", "dev", "lo", "src", "10.128.0.1")
			ns.Do(b, func() {
				listener, err := net.Listen("tcp4", "10.128.0.1:8080")
				if err != nil {
					b.Fatal(err)
				}
				b.Cleanup(func() { _ = listener.Close() })
				go func() {
					for {
						conn, err := listener.Accept()
						if err != nil {
							return
						}
						_ = conn.Close()
					}
				}()
				mustSync(b, newEngine(b, clusterNode), manyServices(n, 3, netip.MustParseAddrPort("10.128.0.1:8080")))
				times := map[int][]time.Duration{}
				for i := 0; b.Loop(); i++ {
					which := i % 2 * (n - 1)
					begin := time.Now()
					conn, err := net.Dial("tcp4", netip.AddrPortFrom(serviceAddr(which), 80).String())
					if err != nil {
						b.Fatal(err)
					}
					times[which] = append(times[which], time.Since(begin))
					_ = conn.Close()
				}
				for which, name := range map[int]string{0: "first-p50-µs", n - 1: "last-p50-µs"} {
					slices.Sort(times[which])
					b.ReportMetric(float64(times[which][len(times[which])/2].Nanoseconds())/1000, name)
				}
			})
		})
	}
}
