// Package underlay is the network between the machines of a lab.
//
// It owns a Linux bridge in the supervisor's own network namespace and the cable
// from it to each machine. It promises that no interface of the host is touched
// and, where the datapath needs it, that every frame on the cables carries its
// checksums. It must not know what a machine does with its frames.
package underlay

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
)

// Interface is the name of each machine's end of its cable.
const Interface = "eth0"

// MTU of the underlay, in bytes: plain Ethernet.
const MTU = 1500

// bridge is the name of the bridge that all cables end in.
const bridge = "underlay"

// Network is the underlay of one lab.
type Network struct {
	prefix  netip.Prefix
	offload bool
	index   int
}

// New makes the bridge in the caller's network namespace. offload tells whether
// frames on the cables may lack checksums that a card would fill in.
func New(prefix netip.Prefix, offload bool) (*Network, error) {
	if err := errors.Join(Quiet(""), LoopbackUp("")); err != nil {
		return nil, err
	}
	link := &netlink.Bridge{LinkAttrs: netlink.NewLinkAttrs()}
	link.Name, link.MTU = bridge, MTU
	if err := netlink.LinkAdd(link); err != nil {
		return nil, fmt.Errorf("make the underlay's bridge: %w", err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return nil, fmt.Errorf("set the underlay's bridge up: %w", err)
	}
	return &Network{prefix: prefix, offload: offload, index: link.Index}, nil
}

// MAC is the hardware address of the machine with that address: it stays the same
// after a power failure, and tells a reader of a capture who it is.
func MAC(addr netip.Addr) net.HardwareAddr {
	b := addr.As4()
	return net.HardwareAddr{0x02, 0xda, b[0], b[1], b[2], b[3]}
}

// Plug lays a cable to the network namespace at the path. The machine's end is
// eth0, up, with the hardware address of addr but no address yet; the other end
// has the given name.
func (n *Network) Plug(path, name string, addr netip.Addr) error {
	ns, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("plug %s in: %w", name, err)
	}
	defer ns.Close()
	// The kernel takes its time to remove the cable of a machine that was cut off.
	if old, err := netlink.LinkByName(name); err == nil {
		if err := netlink.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("pull the old cable of %s: %w", name, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU, attrs.MasterIndex = name, MTU, n.index
	veth := &netlink.Veth{
		LinkAttrs:        attrs,
		PeerName:         Interface,
		PeerHardwareAddr: MAC(addr),
		PeerNamespace:    netlink.NsFd(int(ns.Fd())),
	}
	if err := netlink.LinkAdd(veth); err != nil {
		return fmt.Errorf("plug %s in: %w", name, err)
	}
	if err := netlink.LinkSetUp(veth); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	if err := At(path, func(h *netlink.Handle) error { return setUp(h, Interface) }); err != nil {
		return fmt.Errorf("plug %s in: %w", name, err)
	}
	if n.offload {
		return nil
	}
	return TransmitOffloadOff(path, Interface)
}

// SetPlugged pulls the cable with that name out of the bridge's socket, or puts it in
// again: the machine sees its carrier go and come.
func (n *Network) SetPlugged(name string, plugged bool) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find the cable %s: %w", name, err)
	}
	set := netlink.LinkSetDown
	if plugged {
		set = netlink.LinkSetUp
	}
	if err := set(link); err != nil {
		return fmt.Errorf("plug or unplug the cable %s: %w", name, err)
	}
	return nil
}

// Configure gives an interface of a namespace its addresses on the underlay and,
// when gateway is valid, the default route.
func (n *Network) Configure(path, device string, addrs []netip.Addr, gateway netip.Addr) error {
	err := At(path, func(h *netlink.Handle) error {
		link, err := h.LinkByName(device)
		if err != nil {
			return err
		}
		for _, addr := range addrs {
			address := &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(addr, n.prefix.Bits()))}
			if err := h.AddrReplace(link, address); err != nil {
				return fmt.Errorf("address %s: %w", addr, err)
			}
		}
		if err := h.LinkSetUp(link); err != nil {
			return err
		}
		if !gateway.IsValid() {
			return nil
		}
		return h.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Gw: gateway.AsSlice(), Dst: ipNet(netip.PrefixFrom(netip.IPv4Unspecified(), 0))})
	})
	if err != nil {
		return fmt.Errorf("configure %s: %w", device, err)
	}
	return nil
}

// Route is a way to a part of the pod network.
type Route struct {
	// To is a node's pod subnet.
	To netip.Prefix
	// Via is the node's address.
	Via netip.Addr
}

// routeProtocol marks the routes that SetRoutes made. The number is free for
// administrators (rtnetlink(7): above RTPROT_STATIC).
const routeProtocol = 0xda

// SetRoutes makes the routes of eth0 in the namespace exactly these, besides those
// that somebody else made.
func SetRoutes(path string, routes []Route) error {
	err := At(path, func(h *netlink.Handle) error {
		link, err := h.LinkByName(Interface)
		if err != nil {
			return err
		}
		wanted := map[netip.Prefix]bool{}
		for _, r := range routes {
			wanted[r.To] = true
			route := &netlink.Route{LinkIndex: link.Attrs().Index, Dst: ipNet(r.To), Gw: r.Via.AsSlice(), Protocol: routeProtocol}
			if err := h.RouteReplace(route); err != nil {
				return fmt.Errorf("route to %s: %w", r.To, err)
			}
		}
		present, err := h.RouteListFiltered(netlink.FAMILY_V4, &netlink.Route{Protocol: routeProtocol}, netlink.RT_FILTER_PROTOCOL)
		if err != nil {
			return err
		}
		for _, route := range present {
			addr, ok := netip.AddrFromSlice(route.Dst.IP.To4())
			bits, _ := route.Dst.Mask.Size()
			if ok && !wanted[netip.PrefixFrom(addr, bits)] {
				if err := h.RouteDel(&route); err != nil {
					return err
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("set routes: %w", err)
	}
	return nil
}

// Quiet switches IPv6 off in the namespace at the path (empty: the caller's): the
// pod network does not carry it yet, and its announcements are noise on the wire.
func Quiet(path string) error {
	err := enter.Do(enter.Namespaces{Net: path}, func() error {
		for _, scope := range []string{"all", "default"} {
			err := os.WriteFile("/proc/sys/net/ipv6/conf/"+scope+"/disable_ipv6", []byte("1"), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) { // a kernel without IPv6
				return err
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("switch IPv6 off: %w", err)
	}
	return nil
}

// LoopbackUp sets lo up in the namespace at the path; empty: the caller's.
func LoopbackUp(path string) error {
	if err := At(path, func(h *netlink.Handle) error { return setUp(h, "lo") }); err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	return nil
}

// At calls f with a netlink handle of the network namespace at the path; empty:
// the caller's.
func At(path string, f func(*netlink.Handle) error) error {
	// Not by NewHandleAt: that looks for its own process in /proc, and a supervisor
	// has another number there.
	return enter.Do(enter.Namespaces{Net: path}, func() error {
		h, err := netlink.NewHandle()
		if err != nil {
			return err
		}
		defer h.Close()
		return f(h)
	})
}

func setUp(h *netlink.Handle, name string) error {
	link, err := h.LinkByName(name)
	if err != nil {
		return err
	}
	return h.LinkSetUp(link)
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), 32)}
}
