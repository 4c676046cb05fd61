// Package firewallguard keeps services from leading past egress firewalls.
//
// A service can have endpoints outside of the cluster. A pod's packet to it goes to the
// node's kernel as one to a service, and leaves from there: table 101 does not
// see it. The same goes for a node port of another node, which leads it outside in its turn,
// and does not know who has asked. This package owns the nftables table "damask_firewall", which
// judges what was translated to an address outside, whichever engine has done it, and what is
// sent to such node ports.
//
// It promises that such a packet from a pod of this node passes only if the pod has no
// firewall, or one that allows the endpoint at its port; those of pods that are not
// known yet end. So do those of other nodes' pods, which come here to leave by an egress IP or ask
// this node's gateway: their firewall is not known here. What is translated to a node passes. Answers
// pass. A start changes
// nothing; a table that is not as it should be, damaged or of an older agent, is replaced in one
// transaction. nft prints the table. It must not know what rules are: it is told what is
// allowed.
package firewallguard

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"

	"github.com/google/nftables"
	"github.com/mdlayher/netlink"
)

const (
	// defaultGateway is the device from the switch.
	defaultGateway = "tun0"
	// sendBuffer holds the largest transaction: 100,000 elements are about 5 MiB. It is a
	// limit, not memory that is used.
	sendBuffer = 64 << 20
	// receiveBuffer holds an answer to each message of such a transaction.
	receiveBuffer = 8 << 20
)

// Endpoint is a backend of a service, outside of the cluster.
type Endpoint struct {
	// Address is where packets are translated to.
	Address netip.AddrPort
	// Protocol is the number in the IP header: 6, 17 or 132.
	Protocol uint8
}

// NodePort is where a service is asked on every node.
type NodePort struct {
	// Protocol is the number in the IP header: 6, 17 or 132.
	Protocol uint8
	Port     uint16
}

// Wanted is what may pass.
type Wanted struct {
	// Nodes are the addresses of other nodes, NodePorts those of services that lead outside.
	Nodes     []netip.Addr
	NodePorts []NodePort
	// Free are pods without firewall.
	Free []netip.Addr
	// Judged are the names of the firewalls of all other pods that are known: DNS labels, in which
	// there may be underscores.
	Judged map[netip.Addr]string
	// Allowed are the endpoints that each firewall lets pods reach, and NodePorts of Nodes. None:
	// nothing.
	Allowed map[string][]Endpoint
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
		has, wrong, err := read(conn, c)
		if err != nil {
			return err
		}
		if len(wrong) == 0 {
			g.has = &has
			repairs, err = g.become(conn)
			return err
		}
		if err := anew(conn, c, g.want); err != nil {
			return err
		}
		now := g.want.clone()
		g.has, repairs = &now, append(wrong, fmt.Sprintf("nftables: table %s is made anew", tableName))
		return nil
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
	lines, err = difference(conn, *g.has, g.want)
	if err != nil || len(lines) == 0 {
		return nil, err
	}
	if err := conn.Flush(); err != nil {
		return nil, err
	}
	has := g.want.clone()
	g.has = &has
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
		conn, err := nftables.New(nftables.WithNetNSFd(int(g.node.Fd())), nftables.AsLasting(), nftables.WithSockOptions(func(c *netlink.Conn) error {
			return errors.Join(c.SetWriteBuffer(sendBuffer), c.SetReadBuffer(receiveBuffer))
		}))
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
