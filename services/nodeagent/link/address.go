package link

import (
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

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

// compareAddress gives link the IPv4 address want, with flags (IFA_F_…) if it is new.
// With only, other IPv4 addresses are taken away.
func compareAddress(h *netlink.Handle, link netlink.Link, want netip.Prefix, flags int, only bool, found *differences) error {
	name := link.Attrs().Name
	list, err := listed(func() ([]netlink.Addr, error) { return h.AddrList(link, unix.AF_INET) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", name, err)
	}
	there := false
	var extra []netlink.Addr
	for _, has := range list {
		if p, ok := prefixOf(has.IPNet); ok && p == want {
			there = true
			continue
		}
		extra = append(extra, has)
	}
	// Added before others go: without any address the kernel drops all routes.
	if !there {
		found.add(func() error {
			return h.AddrReplace(link, &netlink.Addr{IPNet: ipNet(want), Flags: flags})
		}, "%s: address %s is missing", name, want)
	}
	if !only {
		return nil
	}
	for _, has := range extra {
		found.add(func() error { return h.AddrDel(link, &has) }, "%s: address %s should not be there", name, has.IPNet)
	}
	return nil
}

// compareUp makes sure that link is up.
func compareUp(h *netlink.Handle, link netlink.Link, found *differences) {
	if link.Attrs().Flags&net.FlagUp == 0 {
		found.add(func() error { return h.LinkSetUp(link) }, "%s: is down", link.Attrs().Name)
	}
}

// compareMTU makes sure that link has the MTU.
func compareMTU(h *netlink.Handle, link netlink.Link, mtu int, found *differences) {
	if has := link.Attrs().MTU; has != mtu {
		found.add(func() error { return h.LinkSetMTU(link, mtu) },
			"%s: MTU is %d, should be %d", link.Attrs().Name, has, mtu)
	}
}
