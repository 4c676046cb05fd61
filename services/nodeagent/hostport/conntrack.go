package hostport

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// udpPorts picks the kernel's entries of UDP flows to host ports that changed. The
// connection tracking goes on translating a flow as its first packet was, while packets
// come: a client that asks on and on would never notice that the pod is another one.
type udpPorts struct {
	ports map[uint16][]netip.Addr // the addresses that each is on, a zero address: all
	to    map[netip.AddrPort]bool // where flows may go now
	local map[netip.Addr]bool     // the node's own addresses
}

// MatchConntrackFlow says that an entry leads where it no more shall. An entry's reverse
// source is where the flow really goes.
func (u udpPorts) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	on, ours := u.ports[flow.Forward.DstPort]
	if !ours || flow.Forward.Protocol != unix.IPPROTO_UDP {
		return false
	}
	asked, _ := netip.AddrFromSlice(flow.Forward.DstIP.To4())
	if !u.local[asked] && !asked.IsLoopback() || !slices.Contains(on, netip.Addr{}) && !slices.Contains(on, asked) {
		return false
	}
	goes, _ := netip.AddrFromSlice(flow.Reverse.SrcIP.To4())
	return !u.to[netip.AddrPortFrom(goes, flow.Reverse.SrcPort)]
}

// forgetFlows deletes entries of UDP flows that go where they may not any more. Without
// UDP host ports it asks the kernel nothing.
func forgetFlows(before, after []Mapping) error {
	u := udpPorts{map[uint16][]netip.Addr{}, map[netip.AddrPort]bool{}, map[netip.Addr]bool{}}
	for _, m := range slices.Concat(before, after) {
		if m.Protocol == UDP {
			u.ports[m.HostPort] = append(u.ports[m.HostPort], m.HostIP)
		}
	}
	if len(u.ports) == 0 {
		return nil
	}
	for _, m := range after {
		u.to[m.To] = true
	}
	addresses, err := netlink.AddrList(nil, netlink.FAMILY_V4)
	if err != nil {
		return fmt.Errorf("list the node's addresses: %w", err)
	}
	for _, a := range addresses {
		address, _ := netip.AddrFromSlice(a.IP.To4())
		u.local[address] = true
	}
	if _, err := netlink.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, u); err != nil {
		return fmt.Errorf("delete stale udp entries of the connection tracking: %w", err)
	}
	return nil
}
