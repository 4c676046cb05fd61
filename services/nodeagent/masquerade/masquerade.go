// Package masquerade keeps the node's fixed iptables chains: pods leave the cluster
// with the node's address, the tunnel and pods may reach the node, and the node may
// forward for pods.
//
// It owns the chains whose names begin with OPENSHIFT- that are listed in rules.go,
// and the jumps to them. It promises to compare rule by rule, to put in what is
// missing before it takes out what is wrong, so that at no moment fewer rules are in
// force than before, never to flush a chain, and to leave every other rule alone.
// OPENSHIFT-ADMIN-OUTPUT-RULES is the administrator's: it is created, never changed.
//
// It must not masquerade between pods, nor between pods and service addresses.
//
// The rules of egress IPs are in the same chains, since their order matters: what has
// an egress IP's mark gets that address before anything is masqueraded. While nobody
// has said which there are (SetEgress), those that are found stay as they are: an agent
// that starts must not send by the node's address what an egress IP was for. When they change,
// it is taken for granted that the chains are as they were compared last: a failover waits
// for it. What does not fit is compared at once, and all of it at the next Ensure.
//
// Of the ancestor's chains those that nothing leads to any more are taken out, once, when
// ours are in force. OPENSHIFT-BLOCK-OUTPUT stays where it is: it keeps the node's own
// processes from the machine config server (ports 22623 and 22624), which is the
// cluster's business and not the pod network's.
//
// Not here yet: the block on these ports for pods.
//
// The rules go to whichever of the two iptables backends (nft, legacy) the node's
// iptables command is, in the network namespace that the calling thread is in.
package masquerade

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
)

// lockSeconds is how long an iptables command waits for the lock that all iptables
// commands of a machine share.
const lockSeconds = 5

// maxMasqueradeBit is the highest bit of a packet's mark.
const maxMasqueradeBit = 31

// Config is what the rules depend on.
type Config struct {
	// ClusterNetworks are the networks of all pods. At least one, IPv4.
	ClusterNetworks []netip.Prefix
	// ServiceNetworks are the networks of service addresses. IPv4.
	ServiceNetworks []netip.Prefix
	// TunnelPort is the tunnel's UDP port; 0 for GRE, which has none.
	TunnelPort uint16
	// Gateway is the device that leads to the pods. Empty: tun0.
	Gateway string
	// MasqueradeBit is the number, 0 to 31, of the mark bit by which the service proxy
	// says that it masquerades a packet itself. OpenShift's is 0.
	MasqueradeBit uint8
	// Userspace says that the switch's datapath is netdev, from which the mark of an
	// egress IP comes in the source MAC. Then there is one chain more.
	Userspace bool

	egress      []EgressIP
	egressKnown bool
}

func (c Config) validate() error {
	var problems []string
	if len(c.ClusterNetworks) == 0 {
		problems = append(problems, "cluster networks are missing")
	}
	for _, p := range append(append([]netip.Prefix{}, c.ClusterNetworks...), c.ServiceNetworks...) {
		if !p.IsValid() || !p.Addr().Is4() || p != p.Masked() {
			problems = append(problems, fmt.Sprintf("network %v is no IPv4 network", p))
		}
	}
	if c.MasqueradeBit > maxMasqueradeBit {
		problems = append(problems, fmt.Sprintf("masquerade bit %d is not 0 to %d", c.MasqueradeBit, maxMasqueradeBit))
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("masquerade: " + strings.Join(problems, "; "))
}

// Rules writes the chains. Its methods can be called from any goroutine.
type Rules struct {
	mu      sync.Mutex // one repair at a time: rules are counted, then changed
	command command

	last        *Config // Of the last Ensure.
	whole       bool    // The last comparison of all chains worked, to its end.
	egress      []EgressIP
	egressKnown bool
	retired     bool // nothing is left of the ancestor's chains
}

// New finds the node's iptables. A node without iptables is an error that says so.
func New() (*Rules, error) {
	c, err := newProgram("iptables")
	if err != nil {
		return nil, err
	}
	return &Rules{command: c}, nil
}

// Ensure makes the chains right and answers one line of text for each repair, none
// when nothing differed. It is idempotent. After an error the rules that were put
// right stay; another call goes on.
func (r *Rules) Ensure(ctx context.Context, config Config) (repairs []string, err error) {
	if err := config.validate(); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = &config
	return r.ensure(ctx, config)
}

// ensure does what Ensure says. The caller holds the lock.
func (r *Rules) ensure(ctx context.Context, config Config) (repairs []string, err error) {
	r.whole = false
	defer func() { r.whole = err == nil }()
	config.egress, config.egressKnown = r.egress, r.egressKnown
	// Leaves first, jumps last: no packet ever enters a chain that is not complete.
	there := map[string][]string{}
	for _, chain := range chains(config) {
		// Asked by table: what iptables says of one chain that does not exist differs
		// between versions and backends.
		if there[chain.table] == nil {
			if there[chain.table], err = r.command.ListChains(chain.table); err != nil {
				return repairs, fmt.Errorf("list chains of table %s: %w", chain.table, err)
			}
		}
		if err := ctx.Err(); err != nil {
			return repairs, err
		}
		if !config.egressKnown {
			chain.spare = isEgress
		}
		lines, err := r.ensureChain(ctx, chain, slices.Contains(there[chain.table], chain.name))
		repairs = append(repairs, lines...)
		if err != nil {
			return repairs, fmt.Errorf("ensure chain %s of table %s: %w", chain.name, chain.table, err)
		}
	}
	for _, parent := range parents(config) {
		lines, err := r.ensureJumps(ctx, parent)
		repairs = append(repairs, lines...)
		if err != nil {
			return repairs, fmt.Errorf("ensure jumps from %s of table %s: %w", parent.name, parent.table, err)
		}
	}
	lines, err := r.retire(ctx)
	return append(repairs, lines...), err
}
