package proxybench_test

import (
	"fmt"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/damask-sdn/damask/internal/netnstest"
	"github.com/damask-sdn/damask/internal/proctest"
	"github.com/damask-sdn/damask/services/nodeagent/proxy"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/iptables"
	"github.com/damask-sdn/damask/services/nodeagent/proxy/nftables"
)

// engine is a way to make an engine in the namespace of the calling thread.
type engine struct {
	name string
	make func(b *testing.B) (proxy.Engine, error)
}

func engines() []engine {
	on := proxy.Node{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}}
	viaIptables := func(program string) func(*testing.B) (proxy.Engine, error) {
		return func(b *testing.B) (proxy.Engine, error) {
			proctest.Need(b, program)
			return iptables.New(on, program)
		}
	}
	return []engine{
		{"nftables", func(b *testing.B) (proxy.Engine, error) {
			e, err := nftables.New(on)
			if err == nil {
				b.Cleanup(func() { _ = e.Close() })
			}
			return e, err
		}},
		{"iptables-nft", viaIptables("iptables-nft")},
		{"iptables-legacy", viaIptables("iptables-legacy")},
	}
}

// node is a node of its own with an engine, and the one backend that answers.
type node struct {
	namespace *netnstest.Namespace
	engine    proxy.Engine
}

// answering is that backend.
var answering = proxy.Backend{Addr: netip.MustParseAddr("192.0.2.1"), Port: 8080}

// newNode is a node that routes cluster IPs somewhere, as every node does.
func newNode(b *testing.B, e engine) *node {
	b.Helper()
	proctest.Need(b, "ip")
	n := &node{namespace: netnstest.New(b, "node")}
	n.namespace.Run(b, "sh", "-e", "-c", "ip link add eth0 type bridge; ip address add 192.0.2.1/24 dev eth0; ip link set eth0 up; ip route add default dev eth0")
	n.do(b, func() {
		var err error
		if n.engine, err = e.make(b); err != nil {
			b.Fatal(err)
		}
		listener, err := net.Listen("tcp4", netip.AddrPortFrom(answering.Addr, answering.Port).String())
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
	})
	return n
}

// do runs something on the node.
func (n *node) do(b *testing.B, something func()) {
	b.Helper()
	n.namespace.Do(b, something)
}

// connect answers how long connections to a service took, in microseconds. The first
// and the last service answer.
func (n *node) connect(b *testing.B, i int) []float64 {
	b.Helper()
	to := netip.AddrPortFrom(clusterIP(i), port).String()
	var took []float64
	for range dials {
		begin := time.Now()
		conn, err := net.Dial("tcp4", to)
		if err != nil {
			b.Fatal(err)
		}
		took = append(took, float64(time.Since(begin).Nanoseconds())/1000)
		_ = conn.Close()
	}
	return took
}

const port = 80

func clusterIP(i int) netip.Addr { return netip.AddrFrom4([4]byte{172, 30, byte(i >> 8), byte(i)}) }

// services are n services of three endpoints each. The first and the last one answer.
func services(n int) proxy.State {
	state := make(proxy.State, n)
	for i := range n {
		s := service(i, 3)
		if i == 0 || i == n-1 {
			s.ClusterBackends = []proxy.Backend{answering}
			s.ExternalBackends = s.ClusterBackends
		}
		state[s.Key] = s
	}
	return state
}

// service is number i, with so many endpoints on pods of other nodes.
func service(i, endpoints int) proxy.Service {
	s := proxy.Service{
		Key:        proxy.Key{Namespace: "bench", Name: fmt.Sprintf("service-%05d", i), PortName: "http", Protocol: proxy.TCP},
		ClusterIPs: []netip.Addr{clusterIP(i)}, Port: port,
	}
	for e := range endpoints {
		s.ClusterBackends = append(s.ClusterBackends, proxy.Backend{Addr: netip.AddrFrom4([4]byte{10, byte(129 + e), byte(i >> 8), byte(i)}), Port: 8080})
	}
	s.ExternalBackends = s.ClusterBackends
	return s
}
