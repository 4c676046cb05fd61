package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// EnsureBridge creates the bridge or repairs what differs from spec, in place and in
// one transaction, and returns when ovs-vswitchd has acted on it. It answers one line
// of text for each repair, none when nothing differed; then nothing was sent.
//
// Pod ports are left alone. Of other settings, such as sFlow or more protocols,
// nothing is taken away. tun0's device may be a new one after a repair, so the
// caller ensures addresses and routes afterwards.
//
// Errors: every problem of the spec; a fixed port that is in another bridge; what
// ovs-vswitchd says about a port; a datapath that this machine cannot do.
func (b *Bridge) EnsureBridge(ctx context.Context, spec Spec) (repairs []string, err error) {
	if err := spec.validate(); err != nil {
		return nil, err
	}
	err = b.retried(ctx, func(s *session) error {
		lines, err := b.ensureOn(ctx, s, spec)
		repairs = append(repairs, lines...)
		return err
	})
	if err != nil {
		return repairs, fmt.Errorf("ensure bridge %s: %w", b.name, err)
	}
	return repairs, nil
}

// ensureOn does EnsureBridge on one connection.
func (b *Bridge) ensureOn(ctx context.Context, s *session, spec Spec) ([]string, error) {
	if err := s.refresh(ctx); err != nil {
		return nil, err
	}
	f, err := s.find(b.name)
	if err != nil {
		return nil, err
	}
	operations, repairs, err := plan(f, b.name, spec)
	if err != nil {
		return nil, err
	}
	if len(operations) > 0 {
		number, err := s.configure(ctx, operations)
		if err != nil {
			return nil, err
		}
		if err := b.settled(ctx, s, number, func() bool { return b.obeyed(s, spec) }); err != nil {
			return repairs, err
		}
	}
	return repairs, b.verify(s, spec)
}

// obeyed says whether no fixed port has another number or MAC than its own.
func (b *Bridge) obeyed(s *session, spec Spec) bool {
	for _, want := range spec.fixedPorts(b.name) {
		row := s.iface(want.name)
		if want.mac != "" && row != nil && deref(row.MACInUse) != want.mac {
			return false
		}
		if want.number != 0 && row != nil && deref(row.OFPort) > 0 && *row.OFPort != want.number {
			return false
		}
	}
	return true
}

// verify looks whether ovs-vswitchd could do what the rows ask for.
func (b *Bridge) verify(s *session, spec Spec) error {
	var problems []string
	for _, want := range spec.fixedPorts(b.name) {
		row := s.iface(want.name)
		number := want.number
		if want.name == b.name {
			number = localOFPort
		}
		switch {
		case row == nil:
			problems = append(problems, fmt.Sprintf("port %s vanished", want.name))
		case deref(row.Error) != "":
			problems = append(problems, fmt.Sprintf("port %s: %s", want.name, *row.Error))
		case row.OFPort == nil && want.name == b.name:
			problems = append(problems, fmt.Sprintf("ovs-vswitchd cannot open datapath type %s (its log says why; "+
				"system needs the kernel module openvswitch)", spec.DatapathType))
		case deref(row.OFPort) != number:
			problems = append(problems, fmt.Sprintf("port %s has OpenFlow port %d, not %d",
				want.name, deref(row.OFPort), number))
		case want.mac != "" && deref(row.MACInUse) != want.mac:
			problems = append(problems, fmt.Sprintf("port %s has MAC %s, not %s", want.name, deref(row.MACInUse), want.mac))
		}
	}
	if len(problems) > 0 {
		return errors.New(strings.Join(problems, "; "))
	}
	return nil
}

// Ports answers the pod ports of the bridge, by name: all but the bridge's own
// device, the tunnel and tun0. With the external ids that AddPort gave them they are
// the node's second memory of what is attached.
func (b *Bridge) Ports(ctx context.Context) ([]Port, error) {
	var ports []Port
	err := b.retried(ctx, func(s *session) error {
		if err := s.refresh(ctx); err != nil {
			return err
		}
		row := s.bridge(b.name)
		if row == nil {
			return nil
		}
		fixed := []string{b.name, GatewayPort, Tunnel{Type: VXLAN}.PortName(),
			Tunnel{Type: Geneve}.PortName(), Tunnel{Type: GRE}.PortName()}
		for _, iface := range s.interfacesOf(row) {
			if !slices.Contains(fixed, iface.Name) {
				ports = append(ports, portOf(iface))
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list ports of %s: %w", b.name, err)
	}
	slices.SortFunc(ports, func(x, y Port) int { return strings.Compare(x.Name, y.Name) })
	return ports, nil
}
