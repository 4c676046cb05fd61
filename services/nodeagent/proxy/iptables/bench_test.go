package iptables_test

import (
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
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
			Key:        proxy.Key{Namespace: "bench", Name: fmt.Sprintf("service-%05d", i), PortName: "http", Protocol: proxy.TCP},
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
func eachSize(b *testing.B, run func(b *testing.B, ns *netnstest.Namespace, e *iptables.Engine, state proxy.State)) {
	for _, program := range backends() {
		for _, services := range []int{10, 1000, 5000, 10000} {
			b.Run(fmt.Sprintf("%s/services=%d", program, services), func(b *testing.B) {
				proctest.Need(b, program)
				ns := netnstest.New(b, "node")
				state := many(services)
				ns.Do(b, func() { run(b, ns, engine(b, benchNode(), program), state) })
			})
		}
	}
}

// BenchmarkFullLoad puts all services onto an empty node.
func BenchmarkFullLoad(b *testing.B) {
	eachSize(b, func(b *testing.B, _ *netnstest.Namespace, e *iptables.Engine, state proxy.State) {
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
	eachSize(b, func(b *testing.B, _ *netnstest.Namespace, e *iptables.Engine, state proxy.State) {
		if _, err := e.Sync(b.Context(), state); err != nil {
			b.Fatal(err)
		}
		full := many(1)[proxy.Key{Namespace: "bench", Name: "service-00000", PortName: "http", Protocol: proxy.TCP}]
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
	eachSize(b, func(b *testing.B, _ *netnstest.Namespace, e *iptables.Engine, state proxy.State) {
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

// BenchmarkConnect makes one TCP connection from the node to the first and to the last
// of the services in KUBE-SERVICES: a connection passes the rules one by one.
func BenchmarkConnect(b *testing.B) {
	here := proxy.Backend{Addr: netip.MustParseAddr("192.0.2.1"), Port: 8080}
	eachSize(b, func(b *testing.B, ns *netnstest.Namespace, e *iptables.Engine, state proxy.State) {
		ns.Run(b, "sh", "-e", "-c", "ip link add eth0 type bridge; ip address add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip route add default dev eth0")
		keys := slices.SortedFunc(maps.Keys(state), proxy.Key.Compare)
		ends := []proxy.Service{state[keys[0]], state[keys[len(keys)-1]]}
		for i := range ends {
			ends[i].ClusterBackends = []proxy.Backend{here}
			ends[i].ExternalBackends = ends[i].ClusterBackends
			state[ends[i].Key] = ends[i]
		}
		if _, err := e.Sync(b.Context(), state); err != nil {
			b.Fatal(err)
		}
		listener, err := net.Listen("tcp4", "192.0.2.1:8080")
		if err != nil {
			b.Fatal(err)
		}
		defer listener.Close()
		go func() {
			for {
				conn, err := listener.Accept()
				if err != nil {
					return
				}
				_ = conn.Close()
			}
		}()
		for i, name := range []string{"first", "last"} {
			to := netip.AddrPortFrom(ends[i].ClusterIPs[0], ends[i].Port).String()
			b.Run(name, func(b *testing.B) {
				ns.Do(b, func() {
					for b.Loop() {
						conn, err := net.Dial("tcp4", to)
						if err != nil {
							b.Fatal(err)
						}
						_ = conn.Close()
					}
				})
			})
		}
	})
}
