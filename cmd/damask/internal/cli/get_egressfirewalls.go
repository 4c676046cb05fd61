package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

// shownAddresses is how many addresses of a name are shown.
const shownAddresses = 3

// firewallRow is one rule, or a policy that has none.
type firewallRow struct {
	policy *egressv1.EgressNetworkPolicy
	rule   *egressv1.EgressRule // nil: the policy has none
	place  int                  // among all rules of the namespace, from 1
	name   *egressv1.DNSName    // of the rule; nil: none, or nothing is known of it
	nodes  string
}

func firewallColumns() []column[firewallRow] {
	rule := func(of func(r firewallRow) string) func(firewallRow) string {
		return func(r firewallRow) string {
			if r.rule == nil {
				return "-"
			}
			return of(r)
		}
	}
	return []column[firewallRow]{
		{title: "NAMESPACE", cell: func(r firewallRow) string { return r.policy.GetNamespace() }},
		{title: "POLICY", cell: func(r firewallRow) string { return r.policy.GetName() }},
		{title: "RULE", cell: rule(func(r firewallRow) string { return fmt.Sprint(r.place) })},
		{title: "TYPE", cell: rule(func(r firewallRow) string { return word("RULE_TYPE_", r.rule.GetType()) })},
		{title: "TO", cell: rule(func(r firewallRow) string { return cmp.Or(r.rule.GetCidrSelector(), r.rule.GetDnsName()) })},
		{title: "PORTS", cell: rule(func(r firewallRow) string { return rulePorts(r.rule) })},
		{title: "ADDRESSES", cell: rule(func(r firewallRow) string { return nameAddresses(r.rule, r.name) })},
		{title: "ORDER", wide: true, cell: func(r firewallRow) string { return fmt.Sprint(r.policy.GetOrder()) }},
		{title: "REVISION", wide: true, cell: func(r firewallRow) string { return fmt.Sprint(r.policy.GetRevision()) }},
		{title: "NODES", wide: true, cell: func(r firewallRow) string { return r.nodes }},
	}
}

// rulePorts writes what a rule is about: "80/tcp,1000-1003/udp,all/sctp".
func rulePorts(r *egressv1.EgressRule) string {
	var all []string
	for _, p := range r.GetPorts() {
		number := "all"
		switch {
		case p.GetEndPort() != 0:
			number = fmt.Sprintf("%d-%d", p.GetPort(), p.GetEndPort())
		case p.GetPort() != 0:
			number = fmt.Sprint(p.GetPort())
		}
		all = append(all, number+"/"+word("PROTOCOL_", p.GetProtocol()))
	}
	return orDash(strings.Join(all, ","))
}

// nameAddresses writes what a name resolves to, and if it does not, why.
func nameAddresses(r *egressv1.EgressRule, name *egressv1.DNSName) string {
	switch {
	case r.GetDnsName() == "":
		return "-"
	case name == nil:
		return "not looked up yet"
	}
	text := strings.Join(name.GetAddresses()[:min(shownAddresses, len(name.GetAddresses()))], ",")
	if more := len(name.GetAddresses()) - shownAddresses; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	if name.GetState() != egressv1.NameState_NAME_STATE_RESOLVED {
		text = strings.TrimSpace(text + " " + word("NAME_STATE_", name.GetState()))
	}
	if name.GetError() != "" {
		text += ": " + name.GetError()
	}
	return text
}

// getEgressFirewallsCommand shows every rule. As json and yaml it shows the policies; wide,
// which nodes have them in force.
func (a *app) getEgressFirewallsCommand(f *format) *cobra.Command {
	var namespace string
	command := &cobra.Command{
		Use:     "egressfirewalls",
		Aliases: []string{"egressfirewall", "efw", "egressnetworkpolicies"},
		Short:   "Show where the pods of namespaces may go outside of the cluster, and what names in rules resolve to",
		Args:    cobra.NoArgs,
		RunE: a.ask(func(ctx context.Context, s *session, command *cobra.Command, _ []string) error {
			policies, err := s.firewallPolicies(ctx, namespace)
			if err != nil {
				return err
			}
			if *f == "json" || *f == "yaml" {
				return show(command.OutOrStdout(), *f, policies, nil)
			}
			names, err := s.dnsNames(ctx)
			if err != nil {
				return err
			}
			rows := firewallRows(policies, names)
			if *f == "wide" {
				nodes, err := s.firewallNodes(ctx)
				if err != nil {
					return err
				}
				for i := range rows {
					rows[i].nodes = orDash(nodes[rows[i].policy.GetNamespace()])
				}
			}
			return table(command.OutOrStdout(), *f == "wide", rows, firewallColumns())
		}),
	}
	a.addNamespaceFlag(command, &namespace)
	return command
}

// firewallRows answers the rules of each namespace in the order in which they are asked.
func firewallRows(policies []*egressv1.EgressNetworkPolicy, names map[string]*egressv1.DNSName) []firewallRow {
	ordered := slices.SortedFunc(slices.Values(policies), func(a, b *egressv1.EgressNetworkPolicy) int {
		return cmp.Or(strings.Compare(a.GetNamespace(), b.GetNamespace()), cmp.Compare(a.GetOrder(), b.GetOrder()), strings.Compare(a.GetName(), b.GetName()))
	})
	var rows []firewallRow
	places := map[string]int{}
	for _, p := range ordered {
		if len(p.GetRules()) == 0 {
			rows = append(rows, firewallRow{policy: p})
		}
		for _, r := range p.GetRules() {
			places[p.GetNamespace()]++
			rows = append(rows, firewallRow{policy: p, rule: r, place: places[p.GetNamespace()], name: names[r.GetDnsName()]})
		}
	}
	return rows
}

// firewallNodes says, for each namespace, which nodes program its firewall, and how far
// they are that are not.
func (s *session) firewallNodes(ctx context.Context) (map[string]string, error) {
	subnets, err := s.hostSubnets(ctx)
	if err != nil {
		return nil, err
	}
	var mu sync.Mutex
	nodes := map[string][]string{}
	eachAgent(subnets, func(_ int, subnet *ipamv1.HostSubnet) {
		agent, done, err := s.agent(subnet)
		if err != nil {
			return
		}
		defer done()
		answer, err := agent.ListObjects(ctx, &nodev1.ListObjectsRequest{}, grpc.MaxCallRecvMsgSize(maxAnswer))
		if err != nil {
			return // get nodes tells which agent does not answer
		}
		mu.Lock()
		defer mu.Unlock()
		for _, status := range answer.GetObjects() {
			if status.GetKind() != firewallKind {
				continue
			}
			text := subnet.GetName()
			switch {
			case status.GetError() != "":
				text += " (" + status.GetError() + ")"
			case status.GetRevisionProgrammed() < status.GetRevisionWanted():
				text += fmt.Sprintf(" (revision %d)", status.GetRevisionProgrammed())
			}
			nodes[status.GetName()] = append(nodes[status.GetName()], text)
		}
	})
	told := map[string]string{}
	for namespace, all := range nodes {
		slices.Sort(all)
		told[namespace] = strings.Join(all, ",")
	}
	return told, nil
}
