// Package firewallguard keeps services from leading past egress firewalls.
//
// A service can have endpoints outside of the cluster. A pod's packet to it goes to the
// node's kernel as one to a service, and leaves from there: table 101 does not
// see it. This package owns the nftables table "damask_firewall", which judges what
// was translated to an address outside, whichever engine has done it.
//
// It promises that such a packet from a pod of this node passes only if the pod has no
// firewall, or one that allows the endpoint at its port; those of pods that are not
// known yet end. Answers pass, and what other nodes' pods send here. A start changes nothing. It must not know what rules are: it is told what
// is allowed.
package firewallguard

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"
)

// defaultGateway is the device from the switch.
const defaultGateway = "tun0"

// Endpoint is a backend of a service, outside of the cluster.
type Endpoint struct {
	// Address is where packets are translated to.
	Address netip.AddrPort
	// Protocol is the number in the IP header: 6, 17 or 132.
	Protocol uint8
}

// Wanted is what may pass.
type Wanted struct {
	// Free are pods without firewall.
	Free []netip.Addr
	// Judged are the numbers of the firewalls of all other pods that are known.
	Judged map[netip.Addr]uint32
	// Allowed are the endpoints that each firewall lets pods reach.
	Allowed map[uint32][]Endpoint
}

// Guard writes the table of one node. Its methods can be called from any goroutine.
type Guard struct {
	node *os.File // the node's network namespace

	mu   sync.Mutex
	conn *nftables.Conn // nil until it is needed, and after an error
	has  *contents      // what the kernel has; nil: not known
	want contents
}

// Open makes a Guard in a network namespace, by its path; empty: the one that the process
// runs in. It changes nothing. The caller closes it.
func Open(namespace string) (*Guard, error) {
	if namespace == "" {
		namespace = "/proc/self/ns/net"
	}
	node, err := os.Open(namespace)
	if err != nil {
		return nil, fmt.Errorf("open the node's network namespace: %w", err)
	}
	return &Guard{node: node, want: newContents()}, nil
}

// Close lets go of the node. The table stays in force.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.drop(), g.node.Close())
}

// Config is what the rules depend on.
type Config struct {
	// Pods is the network of this node's pods.
	Pods netip.Prefix
	// Gateway is the device that leads to the switch. Empty: tun0.
	Gateway string
}

// Ensure makes the table right, all of it, and answers one line for each repair.
func (g *Guard) Ensure(ctx context.Context, c Config) (repairs []string, err error) {
	err = g.do(ctx, func(conn *nftables.Conn) error {
		if repairs, err = ensureChain(conn, c); err != nil {
			return err
		}
		has, err := read(conn)
		if err != nil {
			return err
		}
		g.has = &has
		lines, err := g.become(conn)
		repairs = append(repairs, lines...)
		return err
	})
	if err != nil {
		return repairs, fmt.Errorf("ensure nftables table %s: %w", tableName, err)
	}
	return repairs, nil
}

// Set says what may pass, all of it, and answers when it is in force. Before the first
// Ensure it is only remembered.
func (g *Guard) Set(ctx context.Context, w Wanted) error {
	want := contentsOf(w)
	g.mu.Lock()
	g.want = want
	known := g.has != nil
	g.mu.Unlock()
	if !known {
		return nil
	}
	err := g.do(ctx, func(conn *nftables.Conn) error {
		if g.has == nil {
			return nil // the next Ensure does it
		}
		_, err := g.become(conn)
		return err
	})
	if err != nil {
		return fmt.Errorf("change nftables table %s: %w", tableName, err)
	}
	return nil
}

// become sends the difference in one transaction. The caller holds the lock.
func (g *Guard) become(conn *nftables.Conn) (lines []string, err error) {
	free, pods, allowed := sets()
	var errs []error
	lines = append(lines, difference(conn, free, g.has.free, g.want.free, &errs)...)
	lines = append(lines, difference(conn, pods, g.has.pods, g.want.pods, &errs)...)
	lines = append(lines, difference(conn, allowed, g.has.allowed, g.want.allowed, &errs)...)
	if err := errors.Join(errs...); err != nil || len(lines) == 0 {
		return nil, err
	}
	if err := conn.Flush(); err != nil {
		g.has = nil
		return nil, err
	}
	has := g.want.clone()
	g.has = &has
	slices.Sort(lines)
	return lines, nil
}

// Dropped answers how many packets ended here.
func (g *Guard) Dropped(ctx context.Context) (packets uint64, err error) {
	err = g.do(ctx, func(conn *nftables.Conn) error {
		packets, err = dropped(conn)
		return err
	})
	return packets, err
}

// do runs fn with the connection to itself. After an error it is not used again: answers
// that nobody has read may be left in it.
func (g *Guard) do(ctx context.Context, fn func(*nftables.Conn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.conn == nil {
		conn, err := nftables.New(nftables.WithNetNSFd(int(g.node.Fd())), nftables.AsLasting())
		if err != nil {
			return fmt.Errorf("open nftables socket: %w", err)
		}
		g.conn = conn
	}
	if err := fn(g.conn); err != nil {
		g.has = nil
		return errors.Join(err, g.drop())
	}
	return nil
}

func (g *Guard) drop() error {
	if g.conn == nil {
		return nil
	}
	conn := g.conn
	g.conn = nil
	return conn.CloseLasting()
}

// contents is what the sets have, by the bytes of their elements; of pods, which is a
// map, with the bytes of the firewall's number.
type contents struct {
	free    map[string]string
	pods    map[string]string
	allowed map[string]string
}

func newContents() contents {
	return contents{free: map[string]string{}, pods: map[string]string{}, allowed: map[string]string{}}
}

func contentsOf(w Wanted) contents {
	c := newContents()
	for _, ip := range w.Free {
		c.free[string(ip.AsSlice())] = ""
	}
	for ip, number := range w.Judged {
		c.pods[string(ip.AsSlice())] = string(binary.NativeEndian.AppendUint32(nil, number))
	}
	for number, endpoints := range w.Allowed {
		for _, e := range endpoints {
			key := binary.NativeEndian.AppendUint32(nil, number)
			key = append(key, e.Address.Addr().AsSlice()...)
			key = append(key, e.Protocol, 0, 0, 0)
			key = binary.BigEndian.AppendUint16(key, e.Address.Port())
			c.allowed[string(append(key, 0, 0))] = ""
		}
	}
	return c
}
