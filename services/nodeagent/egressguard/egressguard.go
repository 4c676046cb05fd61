// Package egressguard sees to it that no packet leaves the node by another address than
// its egress IP.
//
// It owns the nftables table "damask_egress". It promises, whatever flows and iptables
// rules are in force at that moment, be it that somebody has deleted some:
//
//   - A packet from the switch that carries the mark of an egress IP passes only while
//     that mark is open here. All others of its kind end before the kernel routes.
//   - A pod's packet with an open mark leaves the node only from the address of that
//     mark; one that is masqueraded, or that an old connection gives another
//     address, ends.
//   - A pod's packet without that mark never leaves from an egress IP that is held here.
//   - New connections to an egress IP are refused: no node port answers there, and
//     no server of the node.
//
// A start changes nothing: what is open stays open, also while no agent runs. It must
// not translate anything (package masquerade does), nor know why an address is held.
package egressguard

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/google/nftables"

	"github.com/damask-sdn/damask/services/nodeagent/masquerade"
)

// defaultGateway is the device from the switch.
const defaultGateway = "tun0"

// Config is what the rules depend on.
type Config struct {
	// ClusterNetworks are the networks of all pods. IPv4.
	ClusterNetworks []netip.Prefix
	// Gateway is the device that leads to the switch. Empty: tun0.
	Gateway string
	// MasqueradeBit is the number, 0 to 31, of the mark bit by which the service proxy
	// asks for masquerading.
	MasqueradeBit uint8
	// Userspace says that the switch's datapath is netdev, from which marks come in
	// the source MAC.
	Userspace bool
}

// Guard writes the table of one node. Its methods can be called from any goroutine.
type Guard struct {
	node *os.File // the node's network namespace

	mu   sync.Mutex
	conn *nftables.Conn // nil until it is needed, and after an error
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
	return &Guard{node: node}, nil
}

// Close lets go of the node. The table stays in force.
func (g *Guard) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	return errors.Join(g.drop(), g.node.Close())
}

// Ensure makes chains and rules right, and answers one line for each repair. What is
// open stays open.
func (g *Guard) Ensure(ctx context.Context, c Config) (repairs []string, err error) {
	if c.Gateway == "" {
		c.Gateway = defaultGateway
	}
	err = g.do(ctx, func(conn *nftables.Conn) error {
		repairs, err = ensureChains(conn, chains(c))
		return err
	})
	if err != nil {
		return repairs, fmt.Errorf("ensure nftables table %s: %w", tableName, err)
	}
	return repairs, nil
}

// Inherit makes the table with these open, if there is none: for egress IPs that this node
// had before it had a guard. The chains come after, by Ensure, so none of theirs ends.
func (g *Guard) Inherit(ctx context.Context, all []masquerade.EgressIP) (inherited bool, err error) {
	err = g.do(ctx, func(conn *nftables.Conn) error {
		there, err := exists(conn)
		if err != nil || there || len(all) == 0 {
			return err
		}
		conn.AddTable(table())
		open, pairs, held := sets()
		for _, set := range []*nftables.Set{open, pairs, held} {
			if err := conn.AddSet(set, nil); err != nil {
				return fmt.Errorf("set %s: %w", set.Name, err)
			}
		}
		_, err = newContents().become(conn, contentsOf(all))
		inherited = err == nil
		return err
	})
	if err != nil {
		return false, fmt.Errorf("make nftables table %s with what is in force: %w", tableName, err)
	}
	return inherited, nil
}

// There says whether there is a table, and so egress IPs were configured once.
func (g *Guard) There(ctx context.Context) (there bool, err error) {
	err = g.do(ctx, func(conn *nftables.Conn) error {
		there, err = exists(conn)
		return err
	})
	return there, err
}

// Translated answers what is open, in order of mark: what an agent that ran before has
// left, or nothing.
func (g *Guard) Translated(ctx context.Context) (open []masquerade.EgressIP, err error) {
	err = g.do(ctx, func(conn *nftables.Conn) error {
		there, err := exists(conn)
		if err != nil || !there {
			return err
		}
		has, err := read(conn)
		open = has.translations()
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read nftables table %s: %w", tableName, err)
	}
	return open, nil
}

// Narrow closes everything but what is in keep, and answers what it closed. That stays an
// egress IP of this node: nothing leaves from it, and nobody can connect to it, until
// Set.
func (g *Guard) Narrow(ctx context.Context, keep []masquerade.EgressIP) (closed []masquerade.EgressIP, err error) {
	_, err = g.change(ctx, func(has contents) contents {
		closed = slices.DeleteFunc(has.translations(), func(e masquerade.EgressIP) bool { return slices.Contains(keep, e) })
		want := contentsOf(keep)
		maps.DeleteFunc(want.pairs, func(pair [8]byte, _ bool) bool { return !has.pairs[pair] || !has.open[markOf(pair)] })
		clear(want.open)
		for pair := range want.pairs {
			want.open[markOf(pair)] = true
		}
		want.held = has.held
		return want
	})
	return closed, err
}

// Set opens exactly these, and answers one line for each element that was not as it
// should be. The addresses in closing stay egress IPs of this node, as after Narrow. The
// table must be there: see Ensure.
func (g *Guard) Set(ctx context.Context, all []masquerade.EgressIP, closing []netip.Addr) (repairs []string, err error) {
	return g.change(ctx, func(contents) contents {
		want := contentsOf(all)
		for _, ip := range closing {
			want.held[ip.As4()] = true
		}
		return want
	})
}

// change compares the sets with what is in the kernel, always: what somebody changed by
// hand is found each time.
func (g *Guard) change(ctx context.Context, wanted func(has contents) contents) (repairs []string, err error) {
	err = g.do(ctx, func(conn *nftables.Conn) error {
		has, err := read(conn)
		if err != nil {
			return err
		}
		repairs, err = has.become(conn, wanted(has))
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("change nftables table %s: %w", tableName, err)
	}
	slices.Sort(repairs)
	return repairs, nil
}

// Remove takes the table away, for a node that has no egress IPs any more. Without one
// it does nothing.
func (g *Guard) Remove(ctx context.Context) (removed bool, err error) {
	err = g.do(ctx, func(conn *nftables.Conn) error {
		if removed, err = exists(conn); err != nil || !removed {
			return err
		}
		conn.DelTable(table())
		return conn.Flush()
	})
	if err != nil {
		return false, fmt.Errorf("remove nftables table %s: %w", tableName, err)
	}
	return removed, nil
}

// Dropped answers how many packets ended here, by reason.
func (g *Guard) Dropped(ctx context.Context) (packets map[string]uint64, err error) {
	err = g.do(ctx, func(conn *nftables.Conn) error {
		there, err := exists(conn)
		if err != nil || !there {
			return err
		}
		packets, err = counters(conn)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("read counters of nftables table %s: %w", tableName, err)
	}
	return packets, nil
}

// do runs fn with the connection to itself. It stays open: when a socket that removed
// something is closed, the kernel waits until nobody can be using that any more. After
// an error it is not used again: answers that nobody has read may be left in it.
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
