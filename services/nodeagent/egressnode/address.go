package egressnode

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// maxListings bounds how often addresses are listed anew, because they changed while
// the kernel told them.
const maxListings = 20

// addresses lists the IPv4 addresses of a link, or of all.
func addresses(socket *netlink.Handle, link netlink.Link) ([]netlink.Addr, error) {
	for tries := 1; ; tries++ {
		all, err := socket.AddrList(link, unix.AF_INET)
		if err == nil {
			return all, nil
		}
		if !errors.Is(err, netlink.ErrDumpInterrupted) || tries == maxListings {
			return nil, fmt.Errorf("list addresses: %w", err)
		}
	}
}

// label marks an address as ours, as operators of OpenShift SDN know it. The kernel
// keeps 15 characters: of a longer name the end is left out. Labels are looked at on
// one interface alone, so two names that begin alike do not matter.
func label(device string) string {
	const suffix = ":eip"
	if room := unix.IFNAMSIZ - 1 - len(suffix); len(device) > room {
		device = device[:room]
	}
	return device + suffix
}

// ipNet is a prefix, host bits kept, as netlink wants it.
func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// prefixOf is the other way round; ok is false for what is no prefix.
func prefixOf(n *net.IPNet) (p netip.Prefix, ok bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	ip, ok := netip.AddrFromSlice(n.IP)
	ones, bits := n.Mask.Size()
	if !ok || bits == 0 {
		return netip.Prefix{}, false
	}
	return netip.PrefixFrom(ip.Unmap(), ones), true
}

// lastOf is the broadcast address of an IPv4 network.
func lastOf(n netip.Prefix) netip.Addr {
	bytes := n.Masked().Addr().As4()
	for bit := n.Bits(); bit < 32; bit++ {
		bytes[bit/8] |= 1 << (7 - bit%8)
	}
	return netip.AddrFrom4(bytes)
}
