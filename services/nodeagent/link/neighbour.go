package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// AskNeighbours asks by ARP for the hardware addresses of other nodes, where the
// switch is also the one that builds tunnel packets (the userspace datapath). It
// learns neighbours only from answers that it sees passing, and drops the packet for
// which it lacks one; the sender's next try is a second later. So somebody has to ask
// before the first packet does: when a node becomes known, and when the switch has
// forgotten everything. Where the kernel builds tunnel packets nothing is done.
//
// Nodes that are not on the underlay's own network are left out: behind a router it
// is the router's address that matters, and the kernel talks to that one anyway.
func (l *Links) AskNeighbours(ctx context.Context, underlay Underlay, nodes []netip.Addr) error {
	if !l.userspace || len(nodes) == 0 {
		return nil
	}
	var sendErr error
	err := within(l.node, func() error {
		socket, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return fmt.Errorf("open packet socket: %w", err)
		}
		defer func() { _ = unix.Close(socket) }()
		to := unix.SockaddrLinklayer{Ifindex: underlay.Index, Halen: 6, Protocol: networkOrder(unix.ETH_P_ARP)}
		for _, node := range nodes {
			if ctx.Err() != nil || !underlay.Address.Contains(node) || node == underlay.Address.Addr() {
				continue
			}
			// One that cannot be asked now must not keep the others from being asked.
			if err := unix.Sendto(socket, arpRequest(underlay, node), 0, &to); err != nil {
				sendErr = errors.Join(sendErr, fmt.Errorf("ask for %s: %w", node, err))
			}
		}
		return nil
	})
	if err = errors.Join(err, sendErr); err != nil {
		return fmt.Errorf("ask for neighbours on %s: %w", underlay.Name, err)
	}
	return nil
}

// arpRequest is a broadcast that asks who has the address (RFC 826).
func arpRequest(underlay Underlay, who netip.Addr) []byte {
	frame := []byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	frame = append(frame, underlay.MAC...)
	frame = append(frame, 0x08, 0x06) // EtherType ARP
	frame = append(frame, 0, 1, 0x08, 0, 6, 4, 0, 1)
	frame = append(append(frame, underlay.MAC...), underlay.Address.Addr().AsSlice()...)
	return append(append(frame, 0, 0, 0, 0, 0, 0), who.AsSlice()...)
}

// networkOrder is htons.
func networkOrder(v uint16) uint16 { return v<<8 | v>>8 }
