package link

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// route is one route of the main table through one link.
type route struct {
	to       netip.Prefix // 0.0.0.0/0 is the default route
	via      netip.Addr   // the zero value: on the link
	source   netip.Addr   // preferred source address; the zero value: none
	scope    netlink.Scope
	protocol netlink.RouteProtocol
}

// everywhere is the destination of a default route.
func everywhere() netip.Prefix { return netip.PrefixFrom(netip.IPv4Unspecified(), 0) }

// multicast is the block of IPv4 multicast addresses (RFC 5771).
func multicast() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4) }

// String prints a route as `ip route` does, without the device.
func (r route) String() string {
	var b strings.Builder
	if r.to.Bits() == 0 {
		b.WriteString("default")
	} else {
		b.WriteString(r.to.String())
	}
	if r.via.IsValid() {
		b.WriteString(" via " + r.via.String())
	}
	if r.protocol != unix.RTPROT_BOOT {
		b.WriteString(" proto " + r.protocol.String())
	}
	if r.scope != netlink.SCOPE_UNIVERSE {
		b.WriteString(" scope " + r.scope.String())
	}
	if r.source.IsValid() {
		b.WriteString(" src " + r.source.String())
	}
	return b.String()
}

// netlink is r as a request for link.
func (r route) netlink(link netlink.Link) *netlink.Route {
	n := &netlink.Route{
		LinkIndex: link.Attrs().Index,
		Dst:       ipNet(r.to),
		Scope:     r.scope,
		Protocol:  r.protocol,
		Table:     unix.RT_TABLE_MAIN,
	}
	if r.via.IsValid() {
		n.Gw = r.via.AsSlice()
	}
	if r.source.IsValid() {
		n.Src = r.source.AsSlice()
	}
	return n
}

// routeOf is the other way round. ok is false for a route that no route here can be
// equal to: one with a metric, say.
func routeOf(n netlink.Route) (r route, ok bool) {
	r = route{to: everywhere(), scope: n.Scope, protocol: n.Protocol}
	if n.Dst != nil {
		if r.to, ok = prefixOf(n.Dst); !ok {
			return r, false
		}
	}
	if n.Gw != nil {
		r.via, _ = netip.AddrFromSlice(n.Gw)
		r.via = r.via.Unmap()
	}
	if n.Src != nil {
		r.source, _ = netip.AddrFromSlice(n.Src)
		r.source = r.source.Unmap()
	}
	plain := n.Type == unix.RTN_UNICAST && n.Priority == 0 && n.Tos == 0 && n.MTU == 0 && len(n.MultiPath) == 0
	return r, plain
}

// compareRoutes makes sure that link has the wanted IPv4 routes in the main table.
// With only, others through link are taken away.
func compareRoutes(h *netlink.Handle, link netlink.Link, want []route, only bool, found *differences) error {
	name := link.Attrs().Name
	list, err := listed(func() ([]netlink.Route, error) {
		return h.RouteListFiltered(unix.AF_INET,
			&netlink.Route{LinkIndex: link.Attrs().Index, Table: unix.RT_TABLE_MAIN},
			netlink.RT_FILTER_OIF|netlink.RT_FILTER_TABLE)
	})
	if err != nil {
		return fmt.Errorf("list routes of %s: %w", name, err)
	}
	has := map[route]bool{}
	replaced := map[netip.Prefix]bool{}
	for _, n := range list {
		if r, ok := routeOf(n); ok {
			has[r] = true
		}
	}
	wanted := map[route]bool{}
	for _, r := range want {
		wanted[r] = true
		if !has[r] {
			// Replace, since the kernel keeps one route for a destination and metric:
			// the wrong one goes in the same step, without a gap.
			replaced[r.to] = true
			found.add(func() error { return h.RouteReplace(r.netlink(link)) }, "%s: route %s is missing", name, r)
		}
	}
	if !only {
		return nil
	}
	for _, n := range list {
		r, plain := routeOf(n)
		if (plain && wanted[r]) || (replaced[r.to] && n.Priority == 0 && n.Tos == 0) {
			continue
		}
		found.add(func() error { return h.RouteDel(&n) }, "%s: route %s should not be there", name, r)
	}
	return nil
}
