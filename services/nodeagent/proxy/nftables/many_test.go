package nftables

import (
	"fmt"
	"net/netip"

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
