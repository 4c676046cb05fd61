package link

import (
	"net"
	"net/netip"
)

// PodMAC is the MAC address of a pod's interface: 0a:58 and the four bytes of the
// pod's IPv4 address. A flow can so derive one from the other, and a pod that gets a
// used address finds no stale neighbour entries. It answers nil for an IPv6 address.
func PodMAC(ip netip.Addr) net.HardwareAddr {
	if !ip.Unmap().Is4() {
		return nil
	}
	b := ip.Unmap().As4()
	return net.HardwareAddr{0x0a, 0x58, b[0], b[1], b[2], b[3]}
}
