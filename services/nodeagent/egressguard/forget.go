package egressguard

import (
	"context"
	"fmt"
	"net/netip"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Forget makes the node's connection tracking forget connections whose source it
// translates and that are asked about: the next packet is as the first of a
// connection. It answers how many. It reads all connections of the node, so it is for
// changes that are few.
func (g *Guard) Forget(ctx context.Context, asked func(from, translated netip.Addr) bool) (forgotten int, err error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	h, err := netlink.NewHandleAt(netns.NsHandle(g.node.Fd()), unix.NETLINK_NETFILTER)
	if err != nil {
		return 0, fmt.Errorf("open netfilter socket: %w", err)
	}
	defer h.Close()
	n, err := h.ConntrackDeleteFilters(netlink.ConntrackTable, unix.AF_INET, filter(asked))
	if err != nil {
		return int(n), fmt.Errorf("forget connections: %w", err)
	}
	return int(n), nil
}

// filter picks connections by source, and by what it is translated to.
type filter func(from, translated netip.Addr) bool

// MatchConntrackFlow is the library's call.
func (f filter) MatchConntrackFlow(flow *netlink.ConntrackFlow) bool {
	from, ok1 := netip.AddrFromSlice(flow.Forward.SrcIP)
	translated, ok2 := netip.AddrFromSlice(flow.Reverse.DstIP)
	return ok1 && ok2 && from.Unmap() != translated.Unmap() && f(from.Unmap(), translated.Unmap())
}
