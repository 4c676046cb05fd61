package link

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Pod is one attachment: a veth pair between the node and a pod.
type Pod struct {
	// Netns is the path of the pod's network namespace. Required.
	Netns string
	// Interface is the interface's name inside, usually eth0. Required.
	Interface string
	// HostVeth is the interface's name on the node; see the function HostVeth. Required.
	HostVeth string
	// Address is the pod's address with the subnet's prefix length. Required, IPv4.
	Address netip.Prefix
	// Gateway is tun0's address. Required, IPv4.
	Gateway netip.Addr
	// ClusterNetworks are the networks of all pods: those are neighbours, not behind
	// the gateway. At least one, IPv4.
	ClusterNetworks []netip.Prefix
	// Behind are the networks behind the gateway, IPv4. Nil: everything else. It is for
	// pods that leave by another interface, see Router.
	Behind []netip.Prefix
	// MTU in bytes.
	MTU int
	// Bandwidth bounds how fast the pod is.
	Bandwidth Bandwidth
}

// PodLink is what EnsurePod made or found.
type PodLink struct {
	// MAC is the address of the pod's interface.
	MAC net.HardwareAddr
	// HostMAC is the address of the interface on the node.
	HostMAC net.HardwareAddr
	// HostIndex is the kernel's number of the interface on the node.
	HostIndex int
	// Created is true when the pair is new.
	Created bool
	// Repairs has one line of text for each thing that differed; nil for a new pair.
	Repairs []string
}

// maxNameLength is IFNAMSIZ without the final zero.
const maxNameLength = 15

func (p Pod) validate() error {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	if !strings.HasPrefix(p.Netns, "/") {
		add("network namespace %q is no absolute path", p.Netns)
	}
	for _, name := range []string{p.Interface, p.HostVeth} {
		if name == "" || len(name) > maxNameLength || name == "." || name == ".." || strings.ContainsAny(name, "/: \t\n") {
			add("%q is no interface name", name)
		}
	}
	if !p.Address.IsValid() || !p.Address.Addr().Is4() {
		add("address %v is no IPv4 address with prefix length", p.Address)
	}
	if !p.Gateway.Is4() {
		add("gateway %v is no IPv4 address", p.Gateway)
	} else if p.Address.IsValid() && !p.Address.Contains(p.Gateway) {
		add("gateway %v is not in the subnet of %v", p.Gateway, p.Address)
	}
	if len(p.ClusterNetworks) == 0 {
		add("cluster networks are missing")
	}
	for _, n := range slices.Concat(p.ClusterNetworks, p.Behind) {
		if !n.IsValid() || !n.Addr().Is4() || n != n.Masked() {
			add("network %v is no IPv4 network", n)
		}
	}
	if p.MTU <= 0 {
		add("MTU %d is not positive", p.MTU)
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("pod link: " + strings.Join(problems, "; "))
}

// routes inside the pod, the one to its subnet first: the gateway is behind it.
func (p Pod) routes() []route {
	on := func(to netip.Prefix) route {
		return route{to: to, scope: netlink.SCOPE_UNIVERSE, protocol: unix.RTPROT_BOOT}
	}
	routes := []route{
		{to: p.Address.Masked(), scope: netlink.SCOPE_LINK, protocol: unix.RTPROT_KERNEL, source: p.Address.Addr()},
	}
	behind := p.Behind
	if behind == nil {
		behind = []netip.Prefix{everywhere()}
	}
	for _, n := range behind {
		toGateway := on(n)
		toGateway.via = p.Gateway
		routes = append(routes, toGateway)
	}
	for _, n := range p.ClusterNetworks {
		// A cluster network that is the subnet itself has its route already.
		if n != p.Address.Masked() {
			routes = append(routes, on(n))
		}
	}
	return append(routes, on(multicast()))
}

// podView is an open pod: sockets and links on both sides.
type podView struct {
	namespace *os.File
	node, pod *netlink.Handle
}

func (l *Links) view(p Pod) (*podView, error) {
	namespace, err := openNamespace(p.Netns)
	if err != nil {
		return nil, fmt.Errorf("open the pod's network namespace: %w", err)
	}
	v := &podView{namespace: namespace}
	same, err := sameNamespace(namespace, l.node)
	if err == nil && same {
		err = fmt.Errorf("%s is the node's own network namespace", p.Netns)
	}
	if err == nil {
		v.node, err = handle(l.node)
	}
	if err == nil {
		v.pod, err = handle(namespace)
	}
	if err != nil {
		v.close()
		return nil, err
	}
	return v, nil
}

func (v *podView) close() {
	if v.node != nil {
		v.node.Close()
	}
	if v.pod != nil {
		v.pod.Close()
	}
	_ = v.namespace.Close()
}

// EnsurePod creates the pair, with the pod's end made inside the pod's namespace, or
// repairs what differs. On the userspace datapath the node's end is in quarantine
// before it is up. After an error a pair that this call created is gone again.
//
// Errors: every problem of p; a namespace that cannot be opened or is the node's own;
// an interface of that name in the pod that is not ours; what the kernel refuses.
func (l *Links) EnsurePod(ctx context.Context, p Pod) (PodLink, error) {
	return l.EnsurePodWhile(ctx, p, func() error { return nil })
}

// EnsurePodWhile is EnsurePod, and runs something else meanwhile that needs no more
// than that the node's end exists: putting it into the switch takes as long as all
// that is left to do inside the pod. It returns when both are done. If either fails,
// a pair that this call created is gone again.
func (l *Links) EnsurePodWhile(ctx context.Context, p Pod, meanwhile func() error) (PodLink, error) {
	if err := p.validate(); err != nil {
		return PodLink{}, err
	}
	if err := ctx.Err(); err != nil {
		return PodLink{}, err
	}
	v, err := l.view(p)
	if err != nil {
		return PodLink{}, fmt.Errorf("ensure pod link %s: %w", p.HostVeth, err)
	}
	defer v.close()
	result, err := l.ensurePod(v, p, meanwhile)
	if err != nil {
		if result.Created {
			err = errors.Join(err, l.remove(v.node, p.HostVeth))
		}
		return PodLink{}, fmt.Errorf("ensure pod link %s: %w", p.HostVeth, err)
	}
	return result, nil
}

func (l *Links) ensurePod(v *podView, p Pod, meanwhile func() error) (PodLink, error) {
	result := PodLink{MAC: PodMAC(p.Address.Addr())}
	host, stale, err := v.host(p)
	if err != nil {
		return result, err
	}
	if stale != "" {
		if err := l.remove(v.node, p.HostVeth); err != nil {
			return result, err
		}
		result.Repairs, host = append(result.Repairs, stale), nil
	}
	if host == nil {
		if host, err = v.create(p, result.MAC); err != nil {
			return result, err
		}
		result.Created = true
	}
	result.HostMAC, result.HostIndex = host.Attrs().HardwareAddr, host.Attrs().Index
	lines, err := l.repairPod(v, p, host, result.Created, meanwhile)
	if err != nil {
		return result, err
	}
	if !result.Created {
		result.Repairs = append(result.Repairs, lines...)
	}
	return result, nil
}

// repairPod makes both ends right. The node's end comes first and alone: the switch,
// when it takes a device, reads the device's flags and writes them back, and would
// bring down again what came up in between. Inside the pod links come before routes,
// which come and go with addresses and states.
func (l *Links) repairPod(v *podView, p Pod, host netlink.Link, created bool, meanwhile func() error) ([]string, error) {
	var outside differences
	if err := l.compareHost(v, host, p, created, &outside); err != nil {
		return nil, err
	}
	lines, err := outside.repair()
	if err != nil {
		return lines, err
	}
	done := make(chan error, 1)
	go func() { done <- meanwhile() }()
	more, err := l.repairInside(v, p, created)
	lines = append(lines, more...)
	if err := errors.Join(err, <-done); err != nil {
		return lines, err
	}
	// The switch removes the queueing discipline of a device that it takes.
	var rate differences
	if err := compareNew(v.node, host, p.MTU, p.Bandwidth.Ingress, created, &rate); err != nil {
		return lines, err
	}
	more, err = rate.repair()
	return append(lines, more...), err
}

func (l *Links) repairInside(v *podView, p Pod, created bool) ([]string, error) {
	var links, routes differences
	inside, err := l.compareInside(v, p, created, &links)
	if err != nil {
		return nil, err
	}
	lines, err := links.repair()
	if err != nil {
		return lines, err
	}
	if err := compareRoutes(v.pod, inside, p.routes(), false, &routes); err != nil {
		return lines, err
	}
	more, err := routes.repair()
	return append(lines, more...), err
}

// CheckPod answers every difference from what EnsurePod makes, one line of text each,
// and changes nothing. Routes and addresses that somebody added inside are no
// difference as long as ours are there.
func (l *Links) CheckPod(ctx context.Context, p Pod) ([]string, error) {
	if err := p.validate(); err != nil {
		return nil, err
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	v, err := l.view(p)
	if err != nil {
		return nil, fmt.Errorf("check pod link %s: %w", p.HostVeth, err)
	}
	defer v.close()
	host, stale, err := v.host(p)
	switch {
	case err != nil:
		return nil, fmt.Errorf("check pod link %s: %w", p.HostVeth, err)
	case stale != "":
		return []string{stale}, nil
	case host == nil:
		return []string{p.HostVeth + ": is missing"}, nil
	}
	var found differences
	if err := l.compareHost(v, host, p, false, &found); err != nil {
		return nil, fmt.Errorf("check pod link %s: %w", p.HostVeth, err)
	}
	if err := compareRate(v.node, host, p.MTU, p.Bandwidth.Ingress, &found); err != nil {
		return nil, fmt.Errorf("check pod link %s: %w", p.HostVeth, err)
	}
	inside, err := l.compareInside(v, p, false, &found)
	if err != nil {
		return nil, fmt.Errorf("check pod link %s: %w", p.HostVeth, err)
	}
	if err := compareRoutes(v.pod, inside, p.routes(), false, &found); err != nil {
		return nil, fmt.Errorf("check pod link %s: %w", p.HostVeth, err)
	}
	return found.texts(), nil
}

// DeletePod removes a pair by the name of the node's end, and its quarantine. What is
// gone is a success.
func (l *Links) DeletePod(ctx context.Context, hostVeth string) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	h, err := handle(l.node)
	if err != nil {
		return fmt.Errorf("delete pod link %s: %w", hostVeth, err)
	}
	defer h.Close()
	if err := l.remove(h, hostVeth); err != nil {
		return fmt.Errorf("delete pod link %s: %w", hostVeth, err)
	}
	return nil
}

// remove does DeletePod.
func (l *Links) remove(h *netlink.Handle, hostVeth string) error {
	link, err := h.LinkByName(hostVeth)
	if err == nil {
		err = h.LinkDel(link)
	}
	// ENODEV: it went by itself meanwhile, with the pod's namespace.
	if err != nil && !isNotFound(err) && !errors.Is(err, unix.ENODEV) {
		return fmt.Errorf("delete link: %w", err)
	}
	if l.userspace {
		return l.Release(hostVeth)
	}
	return nil
}
