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
// each repair, when the rules are in force. It compares the chains that have such rules,
// and of all chains only what an Ensure left undone. Before the first Ensure it is only
// remembered. After an error another call, or Ensure, goes on. A mark of two
// addresses and an address of two marks are an error, and change nothing.
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
	r.egress, r.egressKnown = ips, true
	if r.last == nil {
		return nil, nil
	}
	if !r.whole {
		return r.ensure(ctx, *r.last)
	}
	config := *r.last
	config.egress, config.egressKnown = r.egress, true
	for _, chain := range chains(config) {
		if !chain.egress {
			continue
		}
		lines, err := r.ensureChain(ctx, chain, true)
		repairs = append(repairs, lines...)
		if err != nil {
			// Somebody may have deleted the chain: all is compared then.
			lines, err = r.ensure(ctx, *r.last)
			return append(repairs, lines...), err
		}
	}
	return repairs, nil
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
