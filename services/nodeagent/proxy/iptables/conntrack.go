package iptables

import (
	"fmt"
	"net"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// udpFlows says where UDP flows to addresses of services may go. The kernel's
// connection tracking goes on translating a flow as its first packet was, while packets come.
// A client that asks on and on, as DNS resolvers do, would never notice that its
// backend is gone, or that there is one now.
type udpFlows struct {
	addresses map[netip.AddrPort]map[netip.AddrPort]bool // service address to its backends
	nodePorts map[uint16]map[netip.AddrPort]bool         // the same, on the node's own addresses
}

// stepFlows are the flows that steps concern: the addresses before and after, with the
// backends after. Flows to a service that went while no agent ran are nobody's: they
// end with the kernel's own timeout, two minutes after their last packet.
func stepFlows(steps []proxy.Step) udpFlows {
	f := udpFlows{map[netip.AddrPort]map[netip.AddrPort]bool{}, map[uint16]map[netip.AddrPort]bool{}}
	for _, s := range steps {
		if s.Old != nil {
			gone := *s.Old
			gone.ClusterBackends, gone.OwnBackends, gone.ExternalBackends = nil, nil, nil
			f.add(gone)
		}
	}
	for _, s := range steps {
		if s.New != nil {
			f.add(*s.New)
		}
	}
	return f
}

// add adds a service, over what another had at the same address before.
func (f udpFlows) add(s proxy.Service) {
	if s.Protocol != proxy.UDP {
		return
	}
	backends := map[netip.AddrPort]bool{}
	for _, b := range slices.Concat(own(s.ClusterBackends), own(s.OwnBackends), own(s.ExternalBackends)) {
		backends[b] = true
	}
	for _, a := range mine(slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs), map[netip.Addr]bool{}) {
		f.addresses[netip.AddrPortFrom(a, s.Port)] = backends
	}
	if s.NodePort != 0 {
		f.nodePorts[s.NodePort] = backends
	}
}

// staleFilter picks the kernel's entries of flows that go where they may not.
type staleFilter struct {
	flows udpFlows
	local map[netip.Addr]bool // the node's own addresses
}

// MatchConntrackFlow says that an entry is stale. An entry's reverse source is where
// the flow really goes.
func (f staleFilter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	if flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	asked := endpoint(flow.Forward.DstIP, flow.Forward.DstPort)
	backends, ours := f.flows.addresses[asked]
	if !ours && f.local[asked.Addr()] {
		backends, ours = f.flows.nodePorts[asked.Port()]
	}
	return ours && !backends[endpoint(flow.Reverse.SrcIP, flow.Reverse.SrcPort)]
}

func endpoint(ip net.IP, port uint16) netip.AddrPort {
	address, _ := netip.AddrFromSlice(ip.To4())
	return netip.AddrPortFrom(address, port)
}

// forgetStale deletes the kernel's entries of UDP flows that go where they may not.
// Without UDP services it asks the kernel nothing.
func forgetStale(flows udpFlows) error {
	if len(flows.addresses)+len(flows.nodePorts) == 0 {
		return nil
	}
	filter := staleFilter{flows: flows, local: map[netip.Addr]bool{}}
	if len(flows.nodePorts) > 0 {
		addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
		if err != nil {
			return fmt.Errorf("list the node's addresses: %w", err)
		}
		for _, a := range addresses {
			filter.local[endpoint(a.IP, 0).Addr()] = true
		}
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter); err != nil {
		return fmt.Errorf("delete stale udp entries of the connection tracking: %w", err)
	}
	return nil
}
