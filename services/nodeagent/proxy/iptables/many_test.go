package iptables_test

import (
	"fmt"
	"net/netip"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
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

// clusterNode is a node with the pod network that most clusters have.
func clusterNode() proxy.Node {
	return proxy.Node{ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")}}
}
