package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/adopt"
	"github.com/damask-sdn/damask/cmd/damask/internal/adopt/compare"
	"github.com/damask-sdn/damask/cmd/damask/internal/openshift"
)

func (a *app) adoptNodesCommand() *cobra.Command {
	var kubeconfig openshift.Kubeconfig
	var cordon, dryRun bool
	command := &cobra.Command{
		Use:   "nodes [NODE...]",
		Short: "Take nodes over, one after another: all, or those that are named",
		Long: "Take nodes over, one after another: all, or those that are named; first those that host egress\n" +
			"IPs. Each is looked at once more, gets the label " + openshift.AgentLabel + "=" + openshift.Damask + ", which has Damask's\n" +
			"agent run there and the one of OpenShift SDN end (docs/takeover.md), and is waited for. What\n" +
			"was taken over before is left as it is. The first node that fails ends the command, which says\n" +
			"then in which state it left the nodes; run it again to go on.\n\n" +
			"Nothing is begun while check says that something would be lost, or compare that Damask has\n" +
			"not what the objects say. --timeout is for each node (default " + takeoverTime.String() + ").",
	}
	addKubeconfigFlags(command, &kubeconfig)
	command.Flags().BoolVar(&cordon, "cordon", false, "have no pods scheduled on a node while it is taken over; one that is cordoned already stays so")
	command.Flags().BoolVar(&dryRun, "dry-run", false, "say what would be done, and change nothing")
	command.RunE = func(command *cobra.Command, args []string) error {
		command.SilenceUsage = true
		// The first interrupt ends the work where it is known what was done; a second one the
		// program.
		ctx, stop := signal.NotifyContext(command.Context(), syscall.SIGINT, syscall.SIGTERM)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		client, err := openshift.Open(kubeconfig)
		if err != nil {
			return err
		}
		s, err := a.open(ctx)
		if err != nil {
			return err
		}
		defer s.close()
		t := &takeover{session: s, client: client, cordon: cordon, dryRun: dryRun, patience: takeoverTime, out: command.OutOrStdout()}
		if command.Flags().Changed("timeout") {
			t.patience = a.timeout
		}
		if err := t.prepare(ctx, args, command.ErrOrStderr()); err != nil {
			return explain(err)
		}
		return t.run(ctx)
	}
	command.ValidArgsFunction = a.complete(-1, hostSubnets().names)
	return command
}

// takeover brings nodes over.
type takeover struct {
	session        *session
	client         *openshift.Client
	cordon, dryRun bool
	patience       time.Duration // for one node
	out            io.Writer

	cluster adopt.Cluster
	nodes   map[string]openshift.Node
	order   []string // what is to be done

	taken, already, leftOut []string
}

// prepare reads what there is, and refuses to begin if something speaks against it.
func (t *takeover) prepare(ctx context.Context, wanted []string, warnings io.Writer) error {
	ctx, cancel := context.WithTimeout(ctx, objectsTime)
	defer cancel()
	var err error
	t.cluster, err = readServer(ctx, t.client, warnings)
	if err := errors.Join(err, t.client.MayChange(ctx)); err != nil {
		return err
	}
	if t.nodes, err = t.client.Nodes(ctx); err != nil {
		return err
	}
	report := adopt.Check(t.cluster)
	if err := lost(report); err != nil {
		return errors.Join(showReport(warnings, "table", report), err)
	}
	for _, name := range wanted {
		if !slices.Contains(report.Order, name) {
			err = errors.Join(err, fmt.Errorf("there is no HostSubnet of node %s", name))
		}
	}
	if err != nil {
		return err
	}
	for _, name := range report.Order {
		if len(wanted) == 0 || slices.Contains(wanted, name) {
			t.order = append(t.order, name)
		}
	}
	found, err := t.differences(ctx)
	if err != nil {
		return err
	}
	if len(found) > 0 {
		return errors.Join(showDifferences(warnings, "table", t.cluster, found), differs(found))
	}
	return nil
}

// differences answers where Damask has not what objects say. What changes at this moment is
// waited for.
func (t *takeover) differences(ctx context.Context) ([]compare.Difference, error) {
	for until := time.Now().Add(nodesTime); ; {
		stores, err := t.session.stores(ctx)
		if err != nil {
			return nil, err
		}
		found := compare.Differences(t.cluster, stores)
		if len(found) == 0 || time.Now().After(until) {
			return found, nil
		}
		select {
		case <-ctx.Done():
			return found, nil
		case <-time.After(takeoverPause):
		}
		cluster, _, err := t.client.Read(ctx)
		if err != nil {
			return nil, err
		}
		t.cluster = cluster
	}
}

// run takes the nodes over.
func (t *takeover) run(ctx context.Context) error {
	for i, name := range t.order {
		if ctx.Err() != nil {
			return t.ended(errors.New("interrupted"), "no node is half taken over", t.order[i:])
		}
		state, err := t.node(ctx, name)
		if err != nil {
			return t.ended(fmt.Errorf("node %s: %w", name, explain(err)), "node "+name+" "+state, t.order[i+1:])
		}
	}
	if !t.dryRun {
		fmt.Fprintf(t.out, "%s taken over, %d Damask's already, %d left out\n", count(len(t.taken), "node"), len(t.already), len(t.leftOut))
	}
	return nil
}

// ended is the error of a takeover that does not go on: why, and in which state it leaves
// what.
func (t *takeover) ended(why error, state string, rest []string) error {
	lines := []string{why.Error(), "  " + state}
	if done := slices.Concat(t.taken, t.already); len(done) > 0 {
		lines = append(lines, "  Damask's: "+strings.Join(done, ", "))
	}
	if len(rest) > 0 {
		lines = append(lines, "  not begun: "+strings.Join(rest, ", "))
	}
	lines = append(lines, "  run the command again to go on; docs/takeover.md has the way back")
	return errors.New(strings.Join(lines, "\n"))
}

// node takes one node over. With an error it answers in which state the node is.
func (t *takeover) node(ctx context.Context, name string) (state string, err error) {
	was, there := t.nodes[name]
	if !there {
		fmt.Fprintf(t.out, "node %s is left out: there is no Node of that name\n", name)
		t.leftOut = append(t.leftOut, name)
		return "", nil
	}
	const untouched = "was not changed"
	if was.Agent == openshift.Damask && t.session.isReady(ctx, name) {
		return t.before(ctx, was)
	}
	node, err := t.judge(ctx, was)
	if err != nil {
		return untouched, err
	}
	if t.dryRun {
		t.sayPlan(node)
		return "", nil
	}
	// What was asked for must be known: an interrupt waits for the answer.
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	if node, err = t.client.Take(writing, node, t.cordon); err != nil {
		return t.describe(node), err
	}
	fmt.Fprintf(t.out, "node %s %s\n", name, t.describe(node))
	waiting, cancel := context.WithTimeout(ctx, t.patience)
	defer cancel()
	if err := t.session.awaitTakeover(waiting, t.out, name); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("interrupted; %w", err)
		}
		return t.describe(node) + ": its agent goes on with it", err
	}
	t.taken = append(t.taken, name)
	return t.uncordon(ctx, node)
}

// before is for a node that was taken over before; one that another run left cordoned is
// uncordoned.
func (t *takeover) before(ctx context.Context, node openshift.Node) (state string, err error) {
	fmt.Fprintf(t.out, "node %s is Damask's already\n", node.Name)
	t.already = append(t.already, node.Name)
	if t.dryRun {
		if node.CordonedByUs {
			fmt.Fprintf(t.out, "node %s would be uncordoned\n", node.Name)
		}
		return "", nil
	}
	return t.uncordon(ctx, node)
}

// uncordon lets pods be scheduled on a node that was cordoned for its takeover.
func (t *takeover) uncordon(ctx context.Context, node openshift.Node) (state string, err error) {
	if !node.CordonedByUs {
		return "", nil
	}
	writing, cancel := context.WithTimeout(context.WithoutCancel(ctx), changeTime)
	defer cancel()
	if _, err := t.client.Uncordon(writing, node); err != nil {
		return "is Damask's, and still cordoned", err
	}
	fmt.Fprintf(t.out, "node %s is uncordoned\n", node.Name)
	return "", nil
}

// describe says what a Node has of a takeover.
func (t *takeover) describe(node openshift.Node) string {
	text := "has not the label " + openshift.AgentLabel
	if node.Agent != "" {
		text = "has the label " + openshift.AgentLabel + "=" + node.Agent
	}
	switch {
	case node.CordonedByUs:
		text += ", and is cordoned"
	case node.Cordoned:
		text += ", and stays cordoned, as it was"
	}
	return text
}

// sayPlan says what would be done with a node.
func (t *takeover) sayPlan(node openshift.Node) {
	var steps []string
	cordons := node.CordonedByUs || t.cordon && !node.Cordoned
	if cordons && !node.CordonedByUs {
		steps = append(steps, "cordoned")
	}
	if node.Agent != openshift.Damask {
		steps = append(steps, "given the label "+openshift.AgentLabel+"="+openshift.Damask)
	}
	steps = append(steps, "waited for")
	if cordons {
		steps = append(steps, "uncordoned")
	}
	fmt.Fprintf(t.out, "node %s would be %s\n", node.Name, strings.Join(steps, ", "))
}
