package masquerade

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/damask-sdn/damask/internal/egressmark"
)

// chainEgressMark gives packets from the userspace datapath the mark that their source
// MAC carries. In table mangle, before the kernel routes.
const chainEgressMark = "OPENSHIFT-EGRESS-MARK"

// EgressIP is an address of this node by which marked packets leave.
type EgressIP struct {
	// Mark is the whole mark, all 32 bits; not 0, which is no mark.
	Mark uint32
	// IP is the address, IPv4. Connections to it from outside are refused.
	IP netip.Addr
}

// SetEgress says which egress IPs this node has, all of them, and answers one line for
// each repair, when the rules are in force. It makes what differs from the call before with
// one process, since an address that moves waits for it. With the same ones as before it
// compares the chains that have such rules, and what an Ensure left undone it compares
// whole. Before the first Ensure it is only remembered. After an error another call, or
// Ensure, goes on. A mark of two addresses and an address of two marks are an error, and
// change nothing.
func (r *Rules) SetEgress(ctx context.Context, ips []EgressIP) (repairs []string, err error) {
	ips = slices.SortedFunc(slices.Values(ips), func(a, b EgressIP) int { return cmp.Compare(a.Mark, b.Mark) })
	r.mu.Lock()
	defer r.mu.Unlock()
	bit := uint8(0)
	if r.last != nil {
		bit = r.last.MasqueradeBit
	}
	if err := validateEgress(ips, bit); err != nil {
		return nil, err
	}
	was, known := r.egress, r.egressKnown
	r.egress, r.egressKnown = ips, true
	switch {
	case r.last == nil:
		return nil, nil
	case !r.whole:
		return r.ensure(ctx, *r.last)
	case known && !slices.Equal(was, ips):
		repairs, err = r.replaceEgress(ctx, was)
	default:
		repairs, err = r.compareEgress(ctx)
	}
	if err != nil {
		// Somebody may have changed or deleted a chain: all is compared then.
		lines, err := r.ensure(ctx, *r.last)
		return append(repairs, lines...), err
	}
	return repairs, nil
}

// compareEgress makes the chains right that have rules of egress IPs. They exist.
func (r *Rules) compareEgress(ctx context.Context) (repairs []string, err error) {
	for _, chain := range r.egressChains(r.egress) {
		lines, err := r.ensureChain(ctx, chain, true)
		repairs = append(repairs, lines...)
		if err != nil {
			return repairs, err
		}
	}
	return repairs, nil
}

// replaceEgress makes the rules that were in force those that should be, without a look at
// them. What goes is named and not counted, so no rule of anybody else can go for it. If
// somebody has changed a chain since it was compared, that is an error, or a rule is in a
// wrong place until the next comparison; what leaves with a wrong address for that is
// stopped by the guard (package egressguard).
func (r *Rules) replaceEgress(ctx context.Context, was []EgressIP) (repairs []string, err error) {
	wanted := r.egressChains(r.egress)
	var changes []change
	for i, chain := range r.egressChains(was) {
		steps := plan(chain.rules, wanted[i].rules, func(rule) bool { return true })
		for n := range steps {
			steps[n].named = true
		}
		if len(steps) > 0 {
			changes = append(changes, change{chain.table, chain.name, steps})
			repairs = append(repairs, chain.lines(steps)...)
		}
	}
	if err := r.command.Restore(ctx, changes); err != nil {
		return nil, err
	}
	return repairs, nil
}

// egressChains answers the chains that have rules of egress IPs, with those of these.
func (r *Rules) egressChains(ips []EgressIP) []chain {
	config := *r.last
	config.egress, config.egressKnown = ips, true
	return slices.DeleteFunc(chains(config), func(c chain) bool { return !c.egress })
}

func validateEgress(ips []EgressIP, masqueradeBit uint8) error {
	var problems []string
	marks, addresses := map[uint32]netip.Addr{}, map[netip.Addr]bool{}
	for _, e := range ips {
		if !e.IP.Is4() {
			problems = append(problems, fmt.Sprintf("egress IP %v is no IPv4 address", e.IP))
		}
		if e.Mark == 0 || e.Mark&(1<<masqueradeBit) != 0 {
			problems = append(problems, fmt.Sprintf("egress IP %v: mark %#x is none, or has the masquerade bit %d", e.IP, e.Mark, masqueradeBit))
		}
		if other, taken := marks[e.Mark]; taken {
			problems = append(problems, fmt.Sprintf("egress IPs %v and %v have mark %#x", other, e.IP, e.Mark))
		}
		if addresses[e.IP] {
			problems = append(problems, fmt.Sprintf("egress IP %v has two marks", e.IP))
		}
		marks[e.Mark], addresses[e.IP] = e.IP, true
	}
	if len(problems) == 0 {
		return nil
	}
	return errors.New("masquerade: " + strings.Join(problems, "; "))
}

// egressSourceRules give marked packets their egress IP, as a real cluster was seen to.
func egressSourceRules(c Config) []rule {
	var rules []rule
	for _, e := range c.egress {
		for _, from := range c.ClusterNetworks {
			rules = append(rules, rule{"-s", from.String(), "-m", "mark", "--mark", fmt.Sprintf("%#x", e.Mark), "-j", "SNAT", "--to-source", e.IP.String()})
		}
	}
	return rules
}

// egressRejectRules refuse connections to egress IPs: the node listens on all its
// addresses, and these are not its own.
func egressRejectRules(c Config) []rule {
	var rules []rule
	for _, e := range c.egress {
		rules = append(rules, rule{"-d", e.IP.String() + "/32", "-m", "conntrack", "--ctstate", "NEW", "-j", "REJECT", "--reject-with", "icmp-port-unreachable"})
	}
	return rules
}

func egressMarkRules(c Config) []rule {
	var rules []rule
	for _, e := range c.egress {
		rules = append(rules, rule{"-m", "mac", "--mac-source", egressmark.MAC(e.Mark).String(), "-j", "MARK", "--set-xmark", fmt.Sprintf("%#x/0xffffffff", e.Mark)})
	}
	return rules
}

// isEgress says whether a rule of our chains is one of the above.
func isEgress(r rule) bool {
	switch target(r) {
	case "SNAT", "REJECT", "MARK":
		return true
	}
	return false
}
