package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Gateway is the node's own end of the pod network: an internal port of the switch.
type Gateway struct {
	// Device is the port's device, tun0. Required.
	Device string
	// Bridge is the bridge's own device, br0: it stays down. Empty: none.
	Bridge string
	// Address is the first address of the node's subnet, with the subnet's prefix
	// length. Required, IPv4.
	Address netip.Prefix
	// ClusterNetworks are the networks of all pods. At least one, IPv4.
	ClusterNetworks []netip.Prefix
	// ServiceNetworks are the networks of service addresses. IPv4.
	ServiceNetworks []netip.Prefix
	// MTU in bytes.
	MTU int
}

// validate answers one error that names every problem.
func (g Gateway) validate() error {
	var problems []string
	if g.Device == "" {
		problems = append(problems, "device is missing")
	}
	if !g.Address.IsValid() || !g.Address.Addr().Is4() {
		problems = append(problems, fmt.Sprintf("address %v is no IPv4 address with prefix length", g.Address))
	}
	if len(g.ClusterNetworks) == 0 {
		problems = append(problems, "cluster networks are missing")
	}
	for _, p := range append(append([]netip.Prefix{}, g.ClusterNetworks...), g.ServiceNetworks...) {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() {
			problems = append(problems, fmt.Sprintf("network %v is no IPv4 network", p))
		}
	}
	if g.MTU <= 0 {
		problems = append(problems, fmt.Sprintf("MTU %d is not positive", g.MTU))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("gateway: " + strings.Join(problems, "; "))
}

// routes of the gateway. All pods, those of this node too, are reached through the
// switch, so the kernel's own route for the node's subnet is not among them. Protocol
// kernel is what the ancestor's routes have; network managers leave such routes alone.
func (g Gateway) routes() []route {
	var routes []route
	for _, n := range g.ClusterNetworks {
		routes = append(routes, route{to: n, scope: netlink.SCOPE_LINK, protocol: unix.RTPROT_KERNEL})
	}
	for _, n := range g.ServiceNetworks {
		routes = append(routes, route{to: n, scope: netlink.SCOPE_UNIVERSE, protocol: unix.RTPROT_BOOT})
	}
	return routes
}

// EnsureGateway gives the gateway device its address, MTU and routes, brings it up,
// and makes the node forward IPv4 without ICMP redirects. All IPv4 addresses and routes
// of the device are ours: others are removed. It answers one line of text for each
// thing that differed.
//
// rp_filter is left as the node has it. Everything that comes in by tun0 has a source
// for which the node's route is tun0 (pods, local or remote, and the node itself), so
// also the strict mode lets it pass; the other half of an asymmetric path, a reply
// from outside, comes in where the node's route to its source is. Nor do services need
// accept_local or route_localnet: what a pod sends and gets never has an address of
// the node's own as its source on tun0, and loopback addresses have no node ports.
// Host ports need route_localnet, and package hostport sets it.
//
// Errors: every problem of g; a device that does not exist; what the kernel refuses.
func (l *Links) EnsureGateway(ctx context.Context, g Gateway) (repairs []string, err error) {
	if err := g.validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	repairs, err = l.ensureGateway(g)
	if err != nil {
		return repairs, fmt.Errorf("ensure gateway %s: %w", g.Device, err)
	}
	return repairs, nil
}

func (l *Links) ensureGateway(g Gateway) ([]string, error) {
	h, err := handle(l.node)
	if err != nil {
		return nil, err
	}
	defer h.Close()
	link, err := h.LinkByName(g.Device)
	if err != nil {
		return nil, fmt.Errorf("find device: %w", err)
	}
	var found differences
	if l.userspace {
		if err := compareOffload(l.node, g.Device, &found); err != nil {
			return nil, err
		}
	}
	compareMTU(h, link, g.MTU, &found)
	// Without a prefix route the kernel never makes the one that we would remove.
	if err := compareAddress(h, link, g.Address, unix.IFA_F_NOPREFIXROUTE, true, &found); err != nil {
		return nil, err
	}
	compareUp(h, link, &found)
	if err := compareDown(h, g.Bridge, &found); err != nil {
		return nil, err
	}
	repairs, err := found.repair()
	if err != nil {
		return repairs, err
	}
	// Looked at only now: a change of addresses or of the state changes routes too.
	var routes differences
	if err := compareRoutes(h, link, g.routes(), true, &routes); err != nil {
		return repairs, err
	}
	if err := compareSettings(l.node, settings(g.Device), &routes); err != nil {
		return repairs, err
	}
	lines, err := routes.repair()
	return append(repairs, lines...), err
}

// compareDown makes sure that the bridge's own device, if it is there, is down.
func compareDown(h *netlink.Handle, name string, found *differences) error {
	if name == "" {
		return nil
	}
	link, err := h.LinkByName(name)
	if isNotFound(err) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("find device %s: %w", name, err)
	}
	if link.Attrs().Flags&net.FlagUp != 0 {
		found.add(func() error { return h.LinkSetDown(link) }, "%s: is up, should be down", name)
	}
	return nil
}

func isNotFound(err error) bool {
	return errors.As(err, &netlink.LinkNotFoundError{})
}
