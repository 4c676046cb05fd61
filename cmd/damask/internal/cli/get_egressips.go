package cli

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/types/known/timestamppb"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// egressIPRow is one address and what has become of it.
type egressIPRow struct {
	assignment *egressv1.EgressAssignment
	address    *egressv1.AssignedAddress
	node       *egressv1.EgressNode // that has it; nil: nothing is known of it
}

func egressIPColumns() []column[egressIPRow] {
	return []column[egressIPRow]{
		{title: "EGRESS IP", cell: func(r egressIPRow) string { return r.address.GetIp() }},
		{title: "NAMESPACE", cell: func(r egressIPRow) string { return r.assignment.GetNamespace() }},
		{title: "PODS", cell: func(r egressIPRow) string { return whichPods(r.assignment) }},
		{title: "STATE", cell: func(r egressIPRow) string { return word("ADDRESS_STATE_", r.address.GetState()) }},
		{title: "NODE", cell: func(r egressIPRow) string { return orDash(r.address.GetNode()) }},
		{title: "RULE", cell: func(r egressIPRow) string {
			if r.address.GetRule() == egressv1.PlacementRule_PLACEMENT_RULE_UNSPECIFIED {
				return "-"
			}
			return word("PLACEMENT_RULE_", r.address.GetRule())
		}},
		{title: "SINCE", cell: func(r egressIPRow) string { return age(r.address.GetSince(), time.Now()) }},
		{title: "HEALTH", cell: func(r egressIPRow) string { return health(r.node) }},
		{title: "REASON", cell: func(r egressIPRow) string { return orDash(r.address.GetDetail()) }},
		{title: "NETID", wide: true, cell: func(r egressIPRow) string {
			if r.assignment.Netid == nil {
				return "-"
			}
			return fmt.Sprint(r.assignment.GetNetid())
		}},
		{title: "SELECTOR", wide: true, cell: func(r egressIPRow) string { return labels(r.assignment.GetPodSelector()) }},
		{title: "REVISION", wide: true, cell: func(r egressIPRow) string { return fmt.Sprint(r.assignment.GetRevision()) }},
	}
}

// word prints a value of an enumeration as an operator would say it.
func word(prefix string, value fmt.Stringer) string {
	return strings.ToLower(strings.TrimPrefix(value.String(), prefix))
}

// whichPods says which pods of the namespace leave by an address.
func whichPods(a *egressv1.EgressAssignment) string {
	switch {
	case len(a.GetPodSelector()) > 0:
		return a.GetSelection()
	case a.GetOrder() > 0: // others come first
		return "others"
	}
	return "all"
}

// health says how the node is that has an address.
func health(node *egressv1.EgressNode) string {
	switch {
	case node == nil:
		return "-"
	case node.GetHealth() == egressv1.NodeHealth_NODE_HEALTH_UNSPECIFIED:
		return "up" // counts as
	}
	return word("NODE_HEALTH_", node.GetHealth())
}

// age prints how long ago something was, in the largest unit that is not 0.
func age(since *timestamppb.Timestamp, now time.Time) string {
	if since == nil {
		return "-"
	}
	past := max(0, now.Sub(since.AsTime()))
	switch {
	case past >= 48*time.Hour:
		return fmt.Sprintf("%dd", past/(24*time.Hour))
	case past >= 2*time.Hour:
		return fmt.Sprintf("%dh", past/time.Hour)
	case past >= 2*time.Minute:
		return fmt.Sprintf("%dm", past/time.Minute)
	}
	return fmt.Sprintf("%ds", past/time.Second)
}

// getEgressIPsCommand shows every wanted address. As json and yaml it shows
// EgressAssignments, in which they are kept.
func (a *app) getEgressIPsCommand(f *format) *cobra.Command {
	var namespace string
	command := &cobra.Command{
		Use:     "egressips [IP]",
		Aliases: []string{"egressip", "eip"},
		Short:   "Show by which addresses namespaces leave the cluster, and which node hosts each",
		Args:    cobra.MaximumNArgs(1),
		RunE: a.ask(func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			ip := ""
			if len(args) > 0 {
				ip = args[0]
			}
			assignments, err := s.assignments(ctx, namespace)
			if err != nil {
				return err
			}
			assignments = slices.DeleteFunc(assignments, func(a *egressv1.EgressAssignment) bool { return ip != "" && addressOf(a, ip) == nil })
			if ip != "" && len(assignments) == 0 {
				return fmt.Errorf("no namespace wants the egress IP %q", ip)
			}
			if *f == "json" || *f == "yaml" {
				return show(command.OutOrStdout(), *f, assignments, nil)
			}
			nodes, err := s.egressNodes(ctx)
			if err != nil {
				return err
			}
			return table(command.OutOrStdout(), *f == "wide", egressIPRows(assignments, nodes, ip), egressIPColumns())
		}),
		ValidArgsFunction: a.complete(1, func(ctx context.Context, s *session) ([]string, error) {
			assignments, err := s.assignments(ctx, namespace)
			var ips []string
			for _, row := range egressIPRows(assignments, nil, "") {
				ips = append(ips, row.address.GetIp())
			}
			return ips, err
		}),
	}
	a.addNamespaceFlag(command, &namespace)
	return command
}

func addressOf(a *egressv1.EgressAssignment, ip string) *egressv1.AssignedAddress {
	for _, address := range a.GetAddresses() {
		if address.GetIp() == ip {
			return address
		}
	}
	return nil
}

// egressIPRows answers a row for each address, or for one, by namespace and in the
// order in which pods are matched.
func egressIPRows(assignments []*egressv1.EgressAssignment, nodes []*egressv1.EgressNode, ip string) []egressIPRow {
	byName := map[string]*egressv1.EgressNode{}
	for _, n := range nodes {
		byName[n.GetNode()] = n
	}
	var rows []egressIPRow
	for _, a := range assignments {
		for _, address := range a.GetAddresses() {
			if ip == "" || address.GetIp() == ip {
				rows = append(rows, egressIPRow{a, address, byName[address.GetNode()]})
			}
		}
	}
	slices.SortStableFunc(rows, func(a, b egressIPRow) int {
		return cmp.Or(strings.Compare(a.assignment.GetNamespace(), b.assignment.GetNamespace()), cmp.Compare(a.assignment.GetOrder(), b.assignment.GetOrder()))
	})
	return rows
}
