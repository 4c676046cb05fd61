// Package egressnode holds a node's egress IPs on its interface to the outside.
//
// It owns the addresses with the label "INTERFACE:eip" on the interface that has
// the node IP. It promises that these are exactly the wanted ones, each with the
// prefix length of the network that it is in; that an address which comes is announced
// to the neighbours, more than once; and that one which somebody removes comes back
// at once while Run runs. An address that somebody else put there is left to him.
//
// It must not touch other addresses, flows, or iptables: the translation is package
// masquerade's, and must be in force before flows lead packets here.
package egressnode

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Config says where the addresses are held.
type Config struct {
	// Namespace is the path of the node's network namespace. Empty: the one that the
	// process runs in.
	Namespace string
	// NodeIP is the address of the node; its interface has the egress IPs. IPv4.
	NodeIP netip.Addr
}

// Holder holds the addresses of one node. Its methods can be called from any goroutine.
type Holder struct {
	nodeIP netip.Addr
	node   *os.File // the node's network namespace
	log    hclog.Logger

	mu     sync.Mutex // one comparison at a time
	wanted []netip.Addr
	known  bool          // wanted was said
	fresh  chan struct{} // holds one when there is something to announce
	due    []announcement

	changed  chan struct{} // holds one when addresses of the node may have changed
	restored atomic.Uint64
}

// AddressError is an address that cannot be held, and why.
type AddressError struct {
	IP  netip.Addr
	Err error
}

// Error says both.
func (e *AddressError) Error() string { return fmt.Sprintf("hold egress IP %s: %v", e.IP, e.Err) }

// Unwrap answers why.
func (e *AddressError) Unwrap() error { return e.Err }

// Open makes a Holder, which changes nothing before Hold. The caller closes it.
func Open(config Config, log hclog.Logger) (*Holder, error) {
	if !config.NodeIP.Is4() {
		return nil, fmt.Errorf("egress IPs need a node IP of IPv4, not %v", config.NodeIP)
	}
	path := config.Namespace
	if path == "" {
		path = "/proc/self/ns/net"
	}
	node, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	return &Holder{nodeIP: config.NodeIP, node: node, log: log, fresh: make(chan struct{}, 1), changed: make(chan struct{}, 1)}, nil
}

// Changed holds a token when addresses of the node may have changed since the last
// token was taken, while Run runs: Networks may answer something else. It is for one
// reader.
func (h *Holder) Changed() <-chan struct{} { return h.changed }

// Restored counts the addresses that Run gave back, or took away again.
func (h *Holder) Restored() uint64 { return h.restored.Load() }

// Close lets go of the node's namespace. The addresses stay.
func (h *Holder) Close() error { return h.node.Close() }

// Hold makes the wanted addresses, all of them, those that the node holds, and answers
// one line for each repair. It is the comparison of a start and of an audit too:
// nothing is assumed of what was done before. The error has an AddressError, joined, for
// every address that cannot be held, because it is in no network of the interface, or
// is the node's own; the others are held all the same.
func (h *Holder) Hold(ctx context.Context, wanted []netip.Addr) (repairs []string, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.wanted, h.known = slices.Clone(wanted), true
	return h.compare()
}

// Release takes away all egress IPs but those in keep, adds none, and answers which it
// took. What is in keep is held on if it was held.
func (h *Holder) Release(ctx context.Context, keep []netip.Addr) (gone []netip.Addr, err error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	socket, err := h.socket()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	at, err := h.look(socket)
	if err != nil {
		return nil, err
	}
	if !h.known {
		for _, has := range at.ours {
			if ip, ok := netip.AddrFromSlice(has.IP); ok {
				h.wanted = append(h.wanted, ip.Unmap())
			}
		}
		h.known = true
	}
	h.wanted = slices.DeleteFunc(h.wanted, func(ip netip.Addr) bool { return !slices.Contains(keep, ip) })
	return h.remove(socket, at)
}

// Networks answers the addresses of the interface with their prefix lengths, in
// order, as EgressNodeService wants them told. Egress IPs are not among them.
func (h *Holder) Networks(ctx context.Context) ([]netip.Prefix, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	socket, err := h.socket()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	at, err := h.look(socket)
	return at.networks, err
}

// compare holds what is wanted. The caller has the lock.
func (h *Holder) compare() (repairs []string, err error) {
	socket, err := h.socket()
	if err != nil {
		return nil, err
	}
	defer socket.Close()
	at, err := h.look(socket)
	if err != nil {
		return nil, err
	}
	var problems []error
	gone, err := h.remove(socket, at)
	if err != nil {
		problems = append(problems, err)
	}
	for _, ip := range gone {
		repairs = append(repairs, fmt.Sprintf("%s: egress IP %s should not be there", at.name, ip))
	}
	var came []netip.Addr
	for _, ip := range h.wanted {
		line, err := h.add(socket, at, ip)
		if err != nil {
			problems = append(problems, &AddressError{ip, err})
		}
		if line != "" {
			repairs, came = append(repairs, line), append(came, ip)
		}
	}
	h.announce(came)
	return repairs, errors.Join(problems...)
}

// remove takes away what is ours and not wanted. The caller has the lock.
func (h *Holder) remove(socket *netlink.Handle, at place) (gone []netip.Addr, err error) {
	var problems []error
	for _, has := range at.ours {
		ip, _ := netip.AddrFromSlice(has.IP) // which is none is wanted by nobody
		if ip = ip.Unmap(); slices.Contains(h.wanted, ip) && ip != h.nodeIP {
			continue
		}
		if err := socket.AddrDel(at.link, &has); err != nil && !errors.Is(err, unix.EADDRNOTAVAIL) {
			problems = append(problems, fmt.Errorf("remove egress IP %s: %w", has.IPNet, err))
			continue
		}
		gone = append(gone, ip)
	}
	return gone, errors.Join(problems...)
}

// add gives the interface one address, if it has not got it.
func (h *Holder) add(socket *netlink.Handle, at place, ip netip.Addr) (repair string, err error) {
	if ip == h.nodeIP {
		return "", errors.New("it is the node's own")
	}
	if at.has(ip) {
		return "", nil
	}
	network, ok := at.network(ip)
	if !ok {
		return "", fmt.Errorf("it is in none of the networks of %s: %v", at.name, at.networks)
	}
	err = socket.AddrAdd(at.link, &netlink.Addr{IPNet: ipNet(netip.PrefixFrom(ip, network.Bits())), Label: label(at.name)})
	if err != nil && !errors.Is(err, unix.EEXIST) {
		return "", err
	}
	return fmt.Sprintf("%s: egress IP %s/%d is missing", at.name, ip, network.Bits()), nil
}

// place is the interface as it is now.
type place struct {
	link     netlink.Link
	name     string
	networks []netip.Prefix // of the node's own addresses, in order
	ours     []netlink.Addr
}

func (p place) has(ip netip.Addr) bool {
	return slices.ContainsFunc(p.networks, func(n netip.Prefix) bool { return n.Addr() == ip }) ||
		slices.ContainsFunc(p.ours, func(a netlink.Addr) bool { return a.IP.Equal(ip.AsSlice()) })
}

// network answers the smallest network that has an address, which may be neither its
// first nor its last one.
func (p place) network(ip netip.Addr) (netip.Prefix, bool) {
	var fitting []netip.Prefix
	for _, n := range p.networks {
		if n.Contains(ip) && n.Bits() < 31 && ip != n.Masked().Addr() && ip != lastOf(n) {
			fitting = append(fitting, n)
		}
	}
	if len(fitting) == 0 {
		return netip.Prefix{}, false
	}
	return slices.MaxFunc(fitting, func(a, b netip.Prefix) int { return cmp.Compare(a.Bits(), b.Bits()) }), true
}

// look finds the interface of the node IP and what addresses it has.
func (h *Holder) look(socket *netlink.Handle) (place, error) {
	all, err := addresses(socket, nil)
	if err != nil {
		return place{}, err
	}
	i := slices.IndexFunc(all, func(a netlink.Addr) bool { return a.IP.Equal(h.nodeIP.AsSlice()) })
	if i < 0 {
		return place{}, fmt.Errorf("no interface of this node has the address %s", h.nodeIP)
	}
	at := place{}
	if at.link, err = socket.LinkByIndex(all[i].LinkIndex); err != nil {
		return place{}, fmt.Errorf("find the interface of %s: %w", h.nodeIP, err)
	}
	at.name = at.link.Attrs().Name
	for _, a := range all {
		switch prefix, ok := prefixOf(a.IPNet); {
		case a.LinkIndex != at.link.Attrs().Index || !ok:
		case a.Label == label(at.name) && prefix.Addr() != h.nodeIP:
			at.ours = append(at.ours, a)
		default:
			at.networks = append(at.networks, prefix)
		}
	}
	slices.SortFunc(at.networks, netip.Prefix.Compare)
	return at, nil
}

// socket answers a netlink socket in the node's namespace.
func (h *Holder) socket() (*netlink.Handle, error) {
	socket, err := netlink.NewHandleAt(netns.NsHandle(h.node.Fd()), unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open netlink socket: %w", err)
	}
	return socket, nil
}
