package masquerade

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
)

// formerChains are those that OpenShift SDN had besides ours, by table, with the built-in
// chain from which it jumped there: where its masquerading was, which our chain does itself;
// what it looked at to see whether somebody had flushed everything; and what led to idle
// services, which is to ports of its process.
var formerChains = []struct{ table, name, from string }{
	{"nat", "OPENSHIFT-MASQUERADE-2", ""},
	{"mangle", "OPENSHIFT-SDN-CANARY", ""},
	{"nat", "OPENSHIFT-SDN-CANARY", ""},
	{"filter", "OPENSHIFT-SDN-CANARY", ""},
	{"nat", "KUBE-PORTALS-CONTAINER", "PREROUTING"},
	{"nat", "KUBE-PORTALS-HOST", "OUTPUT"},
	{"nat", "KUBE-NODEPORT-CONTAINER", "PREROUTING"},
	{"nat", "KUBE-NODEPORT-HOST", "OUTPUT"},
	{"filter", "KUBE-NODEPORT-NON-LOCAL", "INPUT"},
}

// retire takes out what only OpenShift SDN had. It comes after the chains that led there
// are as they should be, and looks once: nobody makes these chains anew.
func (r *Rules) retire(ctx context.Context) (repairs []string, err error) {
	if r.retired {
		return nil, nil
	}
	there := map[string][]string{}
	for _, c := range formerChains {
		if there[c.table] == nil {
			if there[c.table], err = r.command.ListChains(c.table); err != nil {
				return repairs, fmt.Errorf("list chains of table %s: %w", c.table, err)
			}
		}
		if !slices.Contains(there[c.table], c.name) {
			continue
		}
		if err := r.jumpNoMore(ctx, c.table, c.from, c.name); err != nil {
			return repairs, fmt.Errorf("take out jumps from %s to %s of table %s: %w", c.from, c.name, c.table, err)
		}
		if err := r.command.ClearAndDeleteChain(c.table, c.name); err != nil {
			return repairs, fmt.Errorf("take out chain %s of table %s: %w", c.name, c.table, err)
		}
		repairs = append(repairs, fmt.Sprintf("iptables: table %s: chain %s of OpenShift SDN removed", c.table, c.name))
	}
	r.retired = true
	return repairs, nil
}

// jumpNoMore takes the rules out of a built-in chain that jump to another one. Without a name
// of one nothing does.
func (r *Rules) jumpNoMore(ctx context.Context, table, from, to string) error {
	if from == "" {
		return nil
	}
	has, err := r.list(table, from)
	if err != nil {
		return err
	}
	steps := plan(has, nil, func(has rule) bool { return target(has) == to })
	if len(steps) == 0 {
		return nil
	}
	return r.command.Restore(ctx, []change{{table, from, steps}})
}

// Translations answers which egress IPs the rules give packets, whoever has written them.
// OpenShift SDN's are ours, word by word: the first of several for a mark is in force.
func (r *Rules) Translations(ctx context.Context) ([]EgressIP, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	there, err := r.command.ListChains("nat")
	if err != nil || !slices.Contains(there, chainMasquerade) {
		return nil, err
	}
	rules, err := r.list("nat", chainMasquerade)
	if err != nil {
		return nil, err
	}
	var all []EgressIP
	seen := map[uint32]bool{}
	for _, rule := range rules {
		mark, err := strconv.ParseUint(after(rule, "--mark"), 0, 32)
		ip, failed := netip.ParseAddr(after(rule, "--to-source"))
		if target(rule) != "SNAT" || err != nil || failed != nil || seen[uint32(mark)] {
			continue
		}
		seen[uint32(mark)] = true
		all = append(all, EgressIP{Mark: uint32(mark), IP: ip})
	}
	return all, nil
}

// after is the word of a rule that follows another, empty if there is none.
func after(r rule, word string) string {
	if i := slices.Index(r, word); i >= 0 && i+1 < len(r) {
		return r[i+1]
	}
	return ""
}
