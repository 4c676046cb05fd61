package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Underlay is the node's interface to the other nodes.
type Underlay struct {
	// Name of the interface.
	Name string
	// Index is the kernel's number of it.
	Index int
	// MTU in bytes.
	MTU int
	// MAC is its hardware address.
	MAC net.HardwareAddr
	// Address is the node IP with the prefix length that the interface has it with.
	Address netip.Prefix
}

// FindUnderlay answers the interface that holds the node IP. The error for an address
// that no interface has names those that there are.
func (l *Links) FindUnderlay(ctx context.Context, nodeIP netip.Addr) (Underlay, error) {
	if err := ctx.Err(); err != nil {
		return Underlay{}, err
	}
	h, err := handle(l.node)
	if err != nil {
		return Underlay{}, err
	}
	defer h.Close()
	addresses, err := listed(func() ([]netlink.Addr, error) { return h.AddrList(nil, unix.AF_INET) })
	if err != nil {
		return Underlay{}, fmt.Errorf("list addresses: %w", err)
	}
	var others []string
	for _, a := range addresses {
		p, ok := prefixOf(a.IPNet)
		if !ok {
			continue
		}
		if p.Addr() != nodeIP {
			others = append(others, p.String())
			continue
		}
		link, err := h.LinkByIndex(a.LinkIndex)
		if err != nil {
			return Underlay{}, fmt.Errorf("find the interface of %s: %w", nodeIP, err)
		}
		has := link.Attrs()
		return Underlay{Name: has.Name, Index: has.Index, MTU: has.MTU, MAC: has.HardwareAddr, Address: p}, nil
	}
	return Underlay{}, fmt.Errorf("no interface of this node has the address %s (there are: %s)",
		nodeIP, strings.Join(others, ", "))
}
