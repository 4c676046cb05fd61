package link

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// noAddressGeneration is IN6_ADDR_GEN_MODE_NONE: the kernel gives the interface no
// IPv6 address and so sends nothing on it by itself.
const noAddressGeneration = 1

// host answers the node's end, nil if there is none. stale is why an interface of that
// name is not the other end of this pod's interface, "" if it is.
func (v *podView) host(p Pod) (host netlink.Link, stale string, err error) {
	host, err = v.node.LinkByName(p.HostVeth)
	if isNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("find %s: %w", p.HostVeth, err)
	}
	if host.Type() != "veth" {
		return nil, "", fmt.Errorf("%s is a %s of somebody else", p.HostVeth, host.Type())
	}
	inside, err := v.pod.LinkByName(p.Interface)
	if isNotFound(err) {
		return host, fmt.Sprintf("%s: its other end is not in %s", p.HostVeth, p.Netns), nil
	}
	if err != nil {
		return nil, "", fmt.Errorf("find %s in the pod: %w", p.Interface, err)
	}
	// Indexes of different namespaces can be equal by chance, so the namespace counts.
	id, err := v.node.GetNetNsIdByFd(int(v.namespace.Fd()))
	if err != nil {
		return nil, "", fmt.Errorf("read the id of %s: %w", p.Netns, err)
	}
	has := host.Attrs()
	if has.NetNsID != id || has.ParentIndex != inside.Attrs().Index || inside.Attrs().ParentIndex != has.Index {
		return host, fmt.Sprintf("%s: its other end is not %s in %s", p.HostVeth, p.Interface, p.Netns), nil
	}
	return host, "", nil
}

// create makes the pair in one request. Both ends are still down.
func (v *podView) create(p Pod, mac net.HardwareAddr) (netlink.Link, error) {
	attrs := netlink.NewLinkAttrs()
	attrs.Name, attrs.MTU = p.HostVeth, p.MTU
	veth := netlink.NewVeth(attrs)
	veth.PeerName = p.Interface
	veth.PeerHardwareAddr = mac
	veth.PeerNamespace = netlink.NsFd(int(v.namespace.Fd()))
	veth.PeerMTU = uint32(p.MTU)
	err := v.node.LinkAdd(veth)
	if errors.Is(err, unix.EEXIST) {
		return nil, fmt.Errorf("create veth: %s or, in the pod, %s exists already: %w", p.HostVeth, p.Interface, err)
	}
	if err != nil {
		return nil, fmt.Errorf("create veth: %w", err)
	}
	host, err := v.node.LinkByName(p.HostVeth)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("find the new veth: %w", err), v.node.LinkDel(veth))
	}
	return host, nil
}

// compareHost compares the node's end, without its rate: see repairPod. A new end needs its quarantine unseen.
func (l *Links) compareHost(v *podView, host netlink.Link, p Pod, created bool, found *differences) error {
	compareMTU(v.node, host, p.MTU, found)
	if l.userspace {
		in := false
		if !created {
			devices, err := l.Quarantined()
			if err != nil {
				return err
			}
			in = slices.Contains(devices, p.HostVeth)
		}
		if !in {
			found.add(func() error { return l.Quarantine(p.HostVeth) }, "%s: is not in quarantine", p.HostVeth)
		}
	}
	if created {
		found.add(func() error { return v.node.LinkSetIP6AddrGenMode(host, noAddressGeneration) },
			"%s: would get an IPv6 address", p.HostVeth)
	}
	compareUp(v.node, host, found)
	return nil
}

// compareNew is compareRate, which asks nothing about a new device that is to be as it is.
func compareNew(h *netlink.Handle, device netlink.Link, mtu int, r Rate, created bool, found *differences) error {
	if created && r.BitsPerSecond == 0 {
		return nil
	}
	return compareRate(h, device, mtu, r, found)
}

// compareInside compares the pod's end and lo, without routes.
func (l *Links) compareInside(v *podView, p Pod, created bool, found *differences) (netlink.Link, error) {
	inside, err := v.pod.LinkByName(p.Interface)
	if err != nil {
		return nil, fmt.Errorf("find %s in the pod: %w", p.Interface, err)
	}
	lo, err := v.pod.LinkByName("lo")
	if err != nil {
		return nil, fmt.Errorf("find lo in the pod: %w", err)
	}
	compareUp(v.pod, lo, found)
	if mac := PodMAC(p.Address.Addr()); !bytes.Equal(inside.Attrs().HardwareAddr, mac) {
		found.add(func() error { return v.pod.LinkSetHardwareAddr(inside, mac) },
			"%s: MAC address is %s, should be %s", p.Interface, inside.Attrs().HardwareAddr, mac)
	}
	compareMTU(v.pod, inside, p.MTU, found)
	if l.userspace {
		if err := compareOffload(v.namespace, p.Interface, found); err != nil {
			return nil, err
		}
	}
	if err := compareAddress(v.pod, inside, p.Address, 0, false, found); err != nil {
		return nil, err
	}
	compareUp(v.pod, inside, found)
	return inside, compareNew(v.pod, inside, p.MTU, p.Bandwidth.Egress, created, found)
}
