package catalog

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/services/servicelb/pool"
)

// kind is a kind of what is handed out, and of the keys that say who has it.
type kind string

const (
	clusterIPs      kind = "clusterip"
	nodePorts       kind = "nodeport" // health-check ports too: they share the nodes' ports
	loadBalancerIPs kind = "loadbalancerip"
)

// kinds are all of them.
func kinds() []kind { return []kind{clusterIPs, nodePorts, loadBalancerIPs} }

// what names one of the kind in a sentence.
func (k kind) what() string {
	return map[kind]string{clusterIPs: "cluster IPs", nodePorts: "node ports", loadBalancerIPs: "load-balancer addresses"}[k]
}

// text writes a number of the kind as people do.
func (k kind) text(n uint32) string {
	if k == nodePorts {
		return strconv.FormatUint(uint64(n), 10)
	}
	return pool.Address(n).String()
}

// Pools is what a cluster hands out.
type Pools struct {
	// NodePorts is the range of node ports.
	NodePorts pool.Span
	// Given says that somebody else hands out cluster IPs and node ports, and may write
	// any load-balancer address: they are taken as they are, and never handed out.
	Given bool
	// LoadBalancers are the pools of load-balancer addresses; none: such
	// addresses are what callers write.
	LoadBalancers []pool.Span
}

// Numbers follows what is taken, so that something free is found without
// reading the store. It learns of every change before the transaction that made
// it is answered. It only proposes: what is written is decided by the store, so
// a Numbers that is ahead or behind costs an attempt, never an address. It is
// safe for concurrent use.
type Numbers struct {
	given bool // see Pools

	mu    sync.Mutex
	pools map[kind]*pool.Pool // none for cluster IPs until the networks are known
	taken map[kind]map[uint32]bool
}

// NewNumbers returns the numbers of some pools, all free. It refuses pools that
// overlap.
func NewNumbers(p Pools) (*Numbers, error) {
	ports, err := pool.New([]pool.Span{p.NodePorts})
	if err != nil {
		return nil, fmt.Errorf("node ports: %w", err)
	}
	balancers, err := pool.New(p.LoadBalancers)
	if err != nil {
		return nil, fmt.Errorf("load-balancer addresses: %w", err)
	}
	n := &Numbers{given: p.Given, pools: map[kind]*pool.Pool{nodePorts: ports, loadBalancerIPs: balancers}}
	n.forget()
	return n, nil
}

func (n *Numbers) forget() {
	n.taken = map[kind]map[uint32]bool{}
	for _, k := range kinds() {
		n.taken[k] = map[uint32]bool{}
	}
}

// SetServiceNetworks says from where cluster IPs are handed out from now on.
// Those that services have stay, wherever they are.
func (n *Numbers) SetServiceNetworks(spans []pool.Span) error {
	p, err := pool.New(spans)
	if err != nil {
		return fmt.Errorf("service networks: %w", err)
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for number := range n.taken[clusterIPs] {
		p.Take(number)
	}
	n.pools[clusterIPs] = p
	return nil
}

// Observe takes over changes of the bucket; after a reset they are all there is.
func (n *Numbers) Observe(changes []bucket.Change, reset bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if reset {
		for k, p := range n.pools {
			for number := range n.taken[k] {
				p.Free(number)
			}
		}
		n.forget()
	}
	for _, c := range changes {
		k, number, ok := claimOf(c.Key)
		if !ok {
			continue
		}
		p := n.pools[k]
		if c.Deleted {
			delete(n.taken[k], number)
			if p != nil {
				p.Free(number)
			}
			continue
		}
		n.taken[k][number] = true
		if p != nil {
			p.Take(number)
		}
	}
}

// Counts answers how many of each kind are taken, and how many there are.
func (n *Numbers) Counts(what string) (taken, size int) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if p := n.pools[kind(what)]; p != nil {
		size = p.Size()
	}
	return len(n.taken[kind(what)]), size
}

// state answers how many of a kind can be handed out at all, and whether that
// is known.
func (n *Numbers) state(k kind) (size int, known bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pools[k]
	switch {
	case p != nil:
		return p.Size(), true
	case n.given:
		return 0, true
	}
	return 0, false
}

// allows says whether a service may have a number.
func (n *Numbers) allows(k kind, number uint32) bool { return n.given || n.contains(k, number) }

// contains says whether a number may be handed out.
func (n *Numbers) contains(k kind, number uint32) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.pools[k] != nil && n.pools[k].Contains(number)
}

// next proposes something free. skip says what a transaction knows to be taken.
func (n *Numbers) next(k kind, skip func(uint32) bool) (uint32, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	p := n.pools[k]
	if p == nil {
		return 0, false
	}
	return p.Next(rand.Uint32N, skip) //nolint:gosec // spreads, protects nothing
}

func claimKey(k kind, number uint32) string { return bucket.Key(string(k), k.text(number)) }

// claimOf answers what a claim's key says is taken.
func claimOf(key string) (kind, uint32, bool) {
	prefix, _, found := strings.Cut(key, ".")
	k := kind(prefix)
	if !found || (k != clusterIPs && k != nodePorts && k != loadBalancerIPs) {
		return "", 0, false
	}
	name, ok := decodeName(key)
	if !ok {
		return "", 0, false
	}
	number, ok := k.parse(name)
	return k, number, ok
}

// Handed says whether a key is that of an address or port which a service has.
func Handed(key string) bool {
	_, _, ok := claimOf(key)
	return ok
}
