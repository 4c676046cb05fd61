package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/spf13/cobra"
	"go.yaml.in/yaml/v3"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
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
	command.AddCommand(adoptCheckCommand(), a.adoptNodeCommand())
	return command
}

// adoptCheckCommand judges objects. It talks to nobody: kubectl gets them.
func adoptCheckCommand() *cobra.Command {
	var files []string
	command := &cobra.Command{
		Use:   "check -f FILE...",
		Short: "Say what of an OpenShift SDN cluster would not be kept as it is",
		Long: "Say what of an OpenShift SDN cluster would not be kept as it is, and change nothing.\n\n" +
			"The objects are what kubectl or oc prints:\n" +
			"  oc get clusternetworks,hostsubnets,netnamespaces,nodes -o yaml >cluster.yaml\n" +
			"  oc get egressnetworkpolicies,networkpolicies --all-namespaces -o yaml >policies.yaml\n" +
			"  damask adopt check -f cluster.yaml -f policies.yaml\n\n" +
			"What is lost cannot be kept, and has to be changed before; then the command fails. What\n" +
			"differs is kept, and works in another way than before.",
		Args: cobra.NoArgs,
	}
	command.Flags().StringArrayVarP(&files, "filename", "f", nil, `a file of objects, in yaml or json; "-" is the standard input`)
	_ = command.MarkFlagRequired("filename") // it was added above
	output := addFormatFlag(command)
	command.RunE = func(command *cobra.Command, _ []string) error {
		command.SilenceUsage = true
		cluster, err := readCluster(files, command.InOrStdin())
		if err != nil {
			return err
		}
		report := adopt.Check(cluster)
		if err := showReport(command.OutOrStdout(), *output, report); err != nil {
			return err
		}
		if n := report.Lost(); n > 0 {
			return fmt.Errorf("not everything can be kept: %d findings say what would be lost", n)
		}
		return nil
	}
	return command
}

// readCluster reads all files as one cluster.
func readCluster(files []string, stdin io.Reader) (adopt.Cluster, error) {
	var cluster adopt.Cluster
	for _, name := range files {
		in, end := stdin, func() error { return nil }
		if name != "-" {
			file, err := os.Open(name)
			if err != nil {
				return cluster, err
			}
			in, end = file, file.Close
		}
		_, err := cluster.Read(in)
		if err := errors.Join(err, end()); err != nil {
			return cluster, fmt.Errorf("%s: %w", name, err)
		}
	}
	return cluster, nil
}

// showReport prints a report.
func showReport(out io.Writer, f format, r adopt.Report) error {
	switch f {
	case "json":
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(r)
	case "yaml":
		encoder := yaml.NewEncoder(out)
		encoder.SetIndent(2)
		return errors.Join(encoder.Encode(r), encoder.Close())
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
// lacks until then, each time that this changes.
func (s *session) awaitTakeover(ctx context.Context, out io.Writer, name string) error {
	said := ""
	for {
		subnets, err := s.hostSubnets(ctx)
		if err != nil {
			return err
		}
		known := only(subnets, name, (*ipamv1.HostSubnet).GetName)
		if len(known) == 0 {
			return fmt.Errorf("there is no HostSubnet of node %s", name)
		}
		state := s.nodeStatuses(ctx, known)[0]
		if state.GetReady() {
			fmt.Fprintf(out, "node %s is Damask's, with %d pods and %d flows\n", name, state.GetPods(), state.GetFlows())
			return nil
		}
		if reason := state.GetNotReadyReason(); reason != said {
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
