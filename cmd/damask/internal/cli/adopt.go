package cli

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	nodev1 "github.com/damask-sdn/damask/proto/damask/node/v1"
)

const (
	// takeoverTime is how long a node may take to become Damask's, from when it is asked
	// for: its former agent ends when the cluster has heard of that.
	takeoverTime = 10 * time.Minute
	// takeoverPause is between two looks at the node.
	takeoverPause = time.Second
)

func (a *app) adoptCommand() *cobra.Command {
	command := &cobra.Command{
		Use: "adopt", Short: "Take over a cluster that runs OpenShift SDN, node by node",
		Args: cobra.NoArgs, RunE: needsVerb,
	}
	command.AddCommand(a.adoptCheckCommand(), a.adoptCompareCommand(), a.adoptNodesCommand(), a.adoptNodeCommand())
	return command
}

// adoptCheckCommand judges objects. It talks to no service of Damask.
func (a *app) adoptCheckCommand() *cobra.Command {
	var source objectSource
	command := &cobra.Command{
		Use:   "check [-f FILE... | --kubeconfig FILE]",
		Short: "Say what of an OpenShift SDN cluster would not be kept as it is",
		Long: "Say what of an OpenShift SDN cluster would not be kept as it is, and change nothing.\n\n" +
			"The objects are read from the API server, all as of one moment. Or from files, as kubectl or\n" +
			"oc prints them:\n" +
			"  oc get clusternetworks,hostsubnets,netnamespaces,nodes -o yaml >cluster.yaml\n" +
			"  oc get egressnetworkpolicies,networkpolicies --all-namespaces -o yaml >policies.yaml\n" +
			"  damask adopt check -f cluster.yaml -f policies.yaml\n\n" +
			"What is lost cannot be kept, and has to be changed before; then the command fails. What\n" +
			"differs is kept, and works in another way than before.",
		Args: cobra.NoArgs,
	}
	source.addFlags(command)
	output := addFormatFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		command.SilenceUsage = true
		ctx, cancel := a.patience(command, objectsTime)
		defer cancel()
		cluster, err := source.read(ctx, command)
		if err != nil {
			return err
		}
		report := adopt.Check(cluster)
		if err := showReport(command.OutOrStdout(), *output, report); err != nil {
			return err
		}
		return lost(report)
	}
	return command
}

// lost is the error that something cannot be kept.
func lost(r adopt.Report) error {
	if n := r.Lost(); n > 0 {
		return fmt.Errorf("not everything can be kept: %d findings say what would be lost", n)
	}
	return nil
}

// showReport prints a report.
func showReport(out io.Writer, f format, r adopt.Report) error {
	if printed, err := encode(out, f, r); printed || err != nil {
		return err
	}
	if len(r.Findings) == 0 {
		fmt.Fprintln(out, "everything would be kept as it is")
		return nil
	}
	return table(out, f == "wide", r.Findings, []column[adopt.Finding]{
		{title: "KIND", cell: func(f adopt.Finding) string { return f.Kind }},
		{title: "NAME", cell: func(f adopt.Finding) string { return f.Name }},
		{title: "VERDICT", cell: func(f adopt.Finding) string { return string(f.Verdict) }},
		{title: "REASON", cell: func(f adopt.Finding) string { return f.Reason }},
	})
}

// adoptNodeCommand watches one node become Damask's.
func (a *app) adoptNodeCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "node NODE",
		Short: "Wait until a node is taken over, and say what it waits for",
		Long: "Wait until a node is taken over, and say what it waits for.\n\n" +
			"The node's own agent does it, as soon as it runs there and the one of OpenShift SDN has\n" +
			"ended; which of them run is for the cluster to say (docs/takeover.md).",
		Args: cobra.ExactArgs(1),
		RunE: a.run(takeoverTime, func(ctx context.Context, s *session, command *cobra.Command, args []string) error {
			return s.awaitTakeover(ctx, command.OutOrStdout(), args[0])
		}),
		ValidArgsFunction: a.complete(1, hostSubnets().names),
	}
}

// awaitTakeover returns when the node's agent says that it is ready, and tells what it
// lacks until then, each time that this changes. A service that is away is waited for, but
// not at the first look.
func (s *session) awaitTakeover(ctx context.Context, out io.Writer, name string) error {
	said := ""
	for {
		state, err := s.takeoverState(ctx, name)
		switch {
		case err != nil && (said == "" || ctx.Err() == nil && !away(err)):
			return err
		case state.GetReady():
			fmt.Fprintf(out, "node %s is Damask's, with %d pods and %d flows\n", name, state.GetPods(), state.GetFlows())
			return nil
		}
		reason := state.GetNotReadyReason()
		if err != nil {
			reason = explain(err).Error()
		}
		// Who does not answer when the time is over says less than what was said before.
		if reason != said && (ctx.Err() == nil || said == "") {
			fmt.Fprintf(out, "node %s waits: %s\n", name, reason)
			said = reason
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("node %s is not taken over: %s", name, said)
		case <-time.After(takeoverPause):
		}
	}
}

// takeoverState is what a node's agent says, or why it says nothing.
func (s *session) takeoverState(ctx context.Context, name string) (*nodev1.NodeStatus, error) {
	subnet, err := s.subnets.GetHostSubnet(ctx, &ipamv1.GetHostSubnetRequest{Node: name})
	if status.Code(err) == codes.NotFound {
		return nil, fmt.Errorf("there is no HostSubnet of node %s", name)
	}
	if err != nil {
		return nil, err
	}
	return s.nodeStatuses(ctx, []*ipamv1.HostSubnet{subnet.GetHostSubnet()})[0], nil
}

// away says whether an error is that a service does not answer.
func away(err error) bool {
	code := status.Code(err)
	return code == codes.Unavailable || code == codes.DeadlineExceeded
}
