package cli

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// policyRow is a policy, and what the nodes say of it.
type policyRow struct {
	policy *tenancyv1.NetworkPolicy
	nodes  []policyOnNode
}

// policyOnNode is how far one node is with a policy that it follows.
type policyOnNode struct {
	node   string
	status *nodev1.ObjectStatus
}

func policyColumns() []column[policyRow] {
	return []column[policyRow]{
		{title: "KIND", cell: func(r policyRow) string { return r.policy.GetKey().GetKind() }},
		{title: "NAMESPACE", cell: func(r policyRow) string { return orDash(r.policy.GetKey().GetNamespace()) }},
		{title: "NAME", cell: func(r policyRow) string { return r.policy.GetKey().GetName() }},
		{title: "STATE", cell: func(r policyRow) string { return policyState(r.policy) }},
		{title: "MEMBERS", cell: func(r policyRow) string { return fmt.Sprint(r.policy.GetStatus().GetMembers()) }},
		{title: "NODES", cell: func(r policyRow) string { return fmt.Sprintf("%d/%d", r.inForce(), len(r.nodes)) }},
		{title: "FLOWS", cell: func(r policyRow) string { return fmt.Sprint(r.flows()) }},
		{title: "PROBLEM", cell: func(r policyRow) string { return orDash(r.problem()) }},
		{title: "GROUPS", wide: true, cell: func(r policyRow) string { return fmt.Sprint(r.policy.GetStatus().GetGroups()) }},
		{title: "REVISION", wide: true, cell: func(r policyRow) string { return fmt.Sprint(r.policy.GetRevision()) }},
		{title: "RESOLVED", wide: true, cell: func(r policyRow) string { return fmt.Sprint(r.policy.GetStatus().GetResolvedRevision()) }},
	}
}

// policyState is the first condition that does not hold, or "resolved".
func policyState(p *tenancyv1.NetworkPolicy) string {
	for _, c := range p.GetStatus().GetConditions() {
		if !c.GetStatus() {
			return strings.ToLower(c.GetReason())
		}
	}
	return "resolved"
}

// inForce counts the nodes that have the policy in force as it is.
func (r policyRow) inForce() int {
	n := 0
	for _, on := range r.nodes {
		if on.status.GetRevisionProgrammed() >= r.policy.GetStatus().GetResolvedRevision() {
			n++
		}
	}
	return n
}

func (r policyRow) flows() int {
	n := 0
	for _, on := range r.nodes {
		n += int(on.status.GetFlows())
	}
	return n
}

// problem is what is wrong with the policy, here or on the first node that says so.
func (r policyRow) problem() string {
	for _, c := range r.policy.GetStatus().GetConditions() {
		if !c.GetStatus() && c.GetReason() == "NotSupported" {
			return c.GetMessage()
		}
	}
	for _, on := range r.nodes {
		if e := on.status.GetError(); e != "" {
			return on.node + ": " + e
		}
	}
	return ""
}

// getPoliciesCommand shows policies, with how far the nodes are. As json and yaml it
// shows what the service answers.
func (a *app) getPoliciesCommand(f *format) *cobra.Command {
	var namespace string
	command := &cobra.Command{
		Use:     "networkpolicies [NAMESPACE/NAME | NAME]",
		Aliases: []string{"networkpolicy", "netpol", "policies", "policy"},
		Short:   "Show policies of all kinds, and on how many of the nodes that need them they are in force",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			within, name, err := namespaceAndName(namespace, args)
			if err != nil {
				return err
			}
			policies, err := s.policyList(ctx, within)
			if err != nil {
				return err
			}
			if name != "" {
				policies = slices.DeleteFunc(policies, func(p *tenancyv1.NetworkPolicy) bool { return p.GetKey().GetName() != name })
				if len(policies) == 0 {
					return fmt.Errorf("there is no policy named %q", args[0])
				}
			}
			if *f == "json" || *f == "yaml" {
				return show(command.OutOrStdout(), *f, policies, nil)
			}
			rows, silent, err := s.policyRows(ctx, policies)
			if err != nil {
				return err
			}
			for _, why := range silent {
				fmt.Fprintf(command.ErrOrStderr(), "damask: %s\n", why)
			}
			return table(command.OutOrStdout(), *f == "wide", rows, policyColumns())
		}),
		ValidArgsFunction: a.complete(1, policyNames),
	}
	a.addNamespaceFlag(command, &namespace)
	return command
}

// policyRows asks all nodes how far they are, and answers who does not tell.
func (s *session) policyRows(ctx context.Context, policies []*tenancyv1.NetworkPolicy) (rows []policyRow, silent []string, err error) {
	subnets, err := s.hostSubnets(ctx)
	if err != nil {
		return nil, nil, err
	}
	var mu sync.Mutex
	on := map[string][]policyOnNode{}
	eachAgent(subnets, func(_ int, subnet *ipamv1.HostSubnet) {
		objects, err := s.objectsOf(ctx, subnet)
		mu.Lock()
		defer mu.Unlock()
		if err != nil {
			silent = append(silent, fmt.Sprintf("node %s: %s", subnet.GetName(), silence(err)))
			return
		}
		for _, o := range objects {
			if o.GetKind() == "policy" {
				on[o.GetName()] = append(on[o.GetName()], policyOnNode{subnet.GetName(), o})
			}
		}
	})
	slices.Sort(silent)
	for _, p := range policies {
		row := policyRow{policy: p, nodes: on[followedName(p.GetKey())]}
		slices.SortFunc(row.nodes, func(a, b policyOnNode) int { return strings.Compare(a.node, b.node) })
		rows = append(rows, row)
	}
	return rows, silent, nil
}

// followedName is a policy's name at the nodes.
func followedName(k *tenancyv1.PolicyKey) string {
	if k.GetNamespace() == "" {
		return k.GetKind() + "/" + k.GetName()
	}
	return k.GetKind() + "/" + k.GetNamespace() + "/" + k.GetName()
}

// objectsOf asks a node how far it is with everything.
func (s *session) objectsOf(ctx context.Context, subnet *ipamv1.HostSubnet) ([]*nodev1.ObjectStatus, error) {
	agent, done, err := s.agent(subnet)
	if err != nil {
		return nil, err
	}
	defer done()
	answer, err := agent.ListObjects(ctx, &nodev1.ListObjectsRequest{}, grpc.MaxCallRecvMsgSize(maxAnswer))
	return answer.GetObjects(), err
}
