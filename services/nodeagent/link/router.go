package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Router is a pod's second interface: a macvlan on one of the node's, by which the pod
// has an address of its own on the underlay.
type Router struct {
	// Netns is the path of the pod's network namespace. Required.
	Netns string
	// Interface is the interface's name inside. Required.
	Interface string
	// Parent is the name of the node's interface. Required.
	Parent string
	// Address on the underlay, IPv4; a /32 has the gateway alone as its neighbour.
	// Not valid: the pod gives itself what it needs, and there is no gateway.
	Address netip.Prefix
	// Gateway is where all goes for which the pod has no other route.
	Gateway netip.Addr
	// Networks are those that the parent must have an address of, one at least, when
	// there is no Address that says so. Nil: any parent will do.
	Networks []netip.Prefix
	// LowPorts lets processes without privilege listen on ports below 1024.
	LowPorts bool
}

func (r Router) validate() error {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !strings.HasPrefix(r.Netns, "/") {
		add("network namespace %q is no absolute path", r.Netns)
	}
	for _, name := range []string{r.Interface, r.Parent} {
		if name == "" || len(name) > maxNameLength || strings.ContainsAny(name, "/: \t\n") {
			add("%q is no interface name", name)
		}
	}
	if r.Address.IsValid() && (!r.Address.Addr().Is4() || !r.Gateway.Is4()) {
		add("%v with gateway %v is not IPv4", r.Address, r.Gateway)
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("egress router: " + strings.Join(problems, "; "))
}

// ErrParent says that a router's parent is no interface that it can be on.
var ErrParent = errors.New("no interface for an egress router")

// EnsureRouter makes the interface, or repairs what differs, and answers what that was.
// Addresses come before the interface is up: the kernel then announces them by ARP, so
// that neighbours forget who had the address before. A failure leaves what was made; see
// DeleteRouter.
//
// Errors: every problem of r; ErrParent; an interface of that name in the pod that is
// none of ours; what the kernel refuses.
func (l *Links) EnsureRouter(ctx context.Context, r Router) ([]string, error) {
	var lines []string
	err := l.router(ctx, r, func(v *podView, parent netlink.Link) error {
		inside, stale, err := v.router(r, parent)
		if err != nil {
			return err
		}
		if inside != nil && stale != "" {
			if err := v.pod.LinkDel(inside); err != nil {
				return fmt.Errorf("delete %s: %w", r.Interface, err)
			}
		}
		if stale != "" {
			lines = append(lines, stale)
			if inside, err = v.createRouter(r, parent); err != nil {
				return err
			}
		}
		var links, routes differences
		if err := v.compareRouter(r, inside, parent, &links); err != nil {
			return err
		}
		more, err := links.repair()
		if lines = append(lines, more...); err != nil {
			return err
		}
		if err := compareRoutes(v.pod, inside, r.routes(), false, &routes); err != nil {
			return err
		}
		more, err = routes.repair()
		lines = append(lines, more...)
		return err
	})
	return lines, err
}

// CheckRouter answers every difference from what EnsureRouter makes, one line of text
// each, and changes nothing.
func (l *Links) CheckRouter(ctx context.Context, r Router) ([]string, error) {
	var found differences
	var missing string
	err := l.router(ctx, r, func(v *podView, parent netlink.Link) error {
		inside, stale, err := v.router(r, parent)
		if err != nil || stale != "" {
			missing = stale
			return err
		}
		if err := v.compareRouter(r, inside, parent, &found); err != nil {
			return err
		}
		return compareRoutes(v.pod, inside, r.routes(), false, &found)
	})
	if missing != "" {
		return []string{missing}, err
	}
	return found.texts(), err
}

// DeleteRouter removes the interface, so that its address is free. What is gone, the
// pod's namespace too, is a success.
func (l *Links) DeleteRouter(ctx context.Context, netns, name string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	v, err := l.view(Pod{Netns: netns})
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, errNotNamespace) {
		return nil // A namespace's name is a mount on a file, which can outlive it.
	}
	if err != nil {
		return fmt.Errorf("delete egress router's %s: %w", name, err)
	}
	defer v.close()
	inside, err := v.pod.LinkByName(name)
	if err == nil && inside.Type() == "macvlan" {
		err = v.pod.LinkDel(inside)
	}
	if err != nil && !isNotFound(err) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete egress router's %s: %w", name, err)
	}
	return nil
}

// router opens the pod and finds the parent.
func (l *Links) router(ctx context.Context, r Router, do func(v *podView, parent netlink.Link) error) error {
	if err := errors.Join(r.validate(), ctx.Err()); err != nil {
		return err
	}
	v, err := l.view(Pod{Netns: r.Netns})
	if err != nil {
		return fmt.Errorf("egress router: %w", err)
	}
	defer v.close()
	parent, err := v.node.LinkByName(r.Parent)
	if isNotFound(err) {
		return fmt.Errorf("%w: the node has no %s", ErrParent, r.Parent)
	}
	if err != nil {
		return fmt.Errorf("find %s: %w", r.Parent, err)
	}
	if err := v.suits(r, parent); err != nil {
		return err
	}
	if err := do(v, parent); err != nil {
		return fmt.Errorf("egress router's %s: %w", r.Interface, err)
	}
	return nil
}

// suits says whether the parent is on the router's network. It keeps routers off devices
// that lead into the pod network, where nothing would tell their packets from the node's.
func (v *podView) suits(r Router, parent netlink.Link) error {
	list, err := listed(func() ([]netlink.Addr, error) { return v.node.AddrList(parent, unix.AF_INET) })
	if err != nil {
		return fmt.Errorf("list addresses of %s: %w", r.Parent, err)
	}
	suits := !r.Address.IsValid() && r.Networks == nil
	for _, a := range list {
		has, ok := prefixOf(a.IPNet)
		switch {
		case !ok:
		case r.Address.IsValid():
			if has.Addr() == r.Address.Addr() {
				return fmt.Errorf("%w: %s is the node's own address", ErrParent, has.Addr())
			}
			suits = suits || has.Contains(r.Address.Addr())
		default:
			for _, n := range r.Networks {
				suits = suits || n.Overlaps(has.Masked())
			}
		}
	}
	switch {
	case suits:
		return nil
	case r.Address.IsValid():
		return fmt.Errorf("%w: %s has no network with %s", ErrParent, r.Parent, r.Address.Addr())
	}
	return fmt.Errorf("%w: %s has no address of %v", ErrParent, r.Parent, r.Networks)
}

// router answers the interface, if there is one, and why it must be made anew; "" if it
// need not.
func (v *podView) router(r Router, parent netlink.Link) (inside netlink.Link, stale string, err error) {
	inside, err = v.pod.LinkByName(r.Interface)
	if isNotFound(err) {
		return nil, r.Interface + ": is missing", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("find %s in the pod: %w", r.Interface, err)
	}
	macvlan, ok := inside.(*netlink.Macvlan)
	if !ok {
		return nil, "", fmt.Errorf("%s in the pod is a %s of somebody else", r.Interface, inside.Type())
	}
	if macvlan.ParentIndex != parent.Attrs().Index || macvlan.Mode != netlink.MACVLAN_MODE_PRIVATE {
		return inside, fmt.Sprintf("%s: is not a private macvlan on %s", r.Interface, r.Parent), nil
	}
	return inside, "", nil
}

// createRouter makes the interface inside the pod. It is still down. Private: pods on
// one node do not reach one another by it, past the flows.
func (v *podView) createRouter(r Router, parent netlink.Link) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.ParentIndex, attrs.MTU = r.Interface, parent.Attrs().Index, parent.Attrs().MTU
	attrs.Namespace = netlink.NsFd(int(v.namespace.Fd()))
	err := v.node.LinkAdd(&netlink.Macvlan{LinkAttrs: attrs, Mode: netlink.MACVLAN_MODE_PRIVATE})
	if errors.Is(err, unix.EBUSY) || errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("%w: %s cannot have macvlans: %w", ErrParent, r.Parent, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create macvlan on %s: %w", r.Parent, err)
	}
	inside, err := v.pod.LinkByName(r.Interface)
	if err != nil {
		return nil, fmt.Errorf("find the new macvlan: %w", err)
	}
	if err := v.pod.LinkSetIP6AddrGenMode(inside, noAddressGeneration); err != nil {
		return nil, fmt.Errorf("keep IPv6 off %s: %w", r.Interface, err)
	}
	return inside, nil
}

// compareRouter compares all but routes.
func (v *podView) compareRouter(r Router, inside, parent netlink.Link, found *differences) error {
	compareMTU(v.pod, inside, parent.Attrs().MTU, found)
	if !r.Address.IsValid() {
		return nil
	}
	settings := []setting{
		{"net.ipv4.ip_forward", "/proc/sys/net/ipv4/ip_forward", "1"},
		{"net.ipv4.conf." + r.Interface + ".arp_notify", "/proc/sys/net/ipv4/conf/" + r.Interface + "/arp_notify", "1"},
	}
	if r.LowPorts {
		settings = append(settings, setting{"net.ipv4.ip_unprivileged_port_start", "/proc/sys/net/ipv4/ip_unprivileged_port_start", "0"})
	}
	if err := compareSettings(v.namespace, settings, found); err != nil {
		return err
	}
	if err := compareAddress(v.pod, inside, r.Address, 0, false, found); err != nil {
		return err
	}
	compareUp(v.pod, inside, found)
	return nil
}

// routes are those by the interface that the kernel does not make from the address.
func (r Router) routes() []route {
	if !r.Address.IsValid() {
		return nil
	}
	toGateway := route{to: everywhere(), via: r.Gateway, scope: netlink.SCOPE_UNIVERSE, protocol: unix.RTPROT_BOOT}
	if r.Address.Bits() < 32 {
		return []route{toGateway}
	}
	neighbour := route{to: netip.PrefixFrom(r.Gateway, 32), scope: netlink.SCOPE_LINK, protocol: unix.RTPROT_BOOT}
	return []route{neighbour, toGateway}
}
