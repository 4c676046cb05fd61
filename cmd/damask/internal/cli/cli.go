// Package cli is what an operator types: damask get, create, patch, delete,
// pod-network, policy, label, multicast, service, egressfirewall, node, mode, flows, audit and adopt.
//
// It owns the verbs, what they print, and the words in which errors are shown.
// It promises that tables have the columns that OpenShift's have, that json and
// yaml are the API's own messages, and that a change has returned only when
// every node has it in force, unless told not to wait. A service that is away is
// said so within seconds. It must decide nothing
// that a service decides: it asks, and shows the answer.
//
// The lab's own commands are not here: see package lab.
package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
)

// Connector knows the labs of this machine.
type Connector interface {
	// Lab answers how to reach the lab of that name. Its error is one sentence
	// for a person.
	Lab(ctx context.Context, name string) (Cluster, error)
}

const (
	// defaultLab is the lab that commands mean when none is named.
	defaultLab = "lab1"
	// answerTime is how long a question waits for its answer. A service answers
	// in milliseconds; one that restarts is back within two seconds.
	answerTime = 5 * time.Second
	// changeTime is how long a change waits for its answer. Three NATS servers
	// that lose their leader need up to ten seconds to agree on another, and it is
	// better to wait a little more than not to know what became of a change.
	changeTime = 30 * time.Second
	// nodesTime is how long a command that made a change waits for the nodes
	// after that: an agent that restarts is back within a few seconds.
	nodesTime = 30 * time.Second
)

// app is what the commands share.
type app struct {
	connect Connector
	lab     string
	config  string
	timeout time.Duration
}

// AddCommands adds the operator's commands to root, and the flags by which they
// find a cluster: --lab, --config and --timeout.
func AddCommands(root *cobra.Command, connect Connector) {
	a := &app{connect: connect}
	commands := []*cobra.Command{
		a.getCommand(), a.createCommand(), a.patchCommand(), a.deleteCommand(),
		a.podNetworkCommand(), a.policyCommand(), a.labelCommand(), a.multicastCommand(), a.egressRouterCommand(),
		a.serviceCommand(), a.firewallCommand(), a.nodeCommand(), a.modeCommand(), a.flowsCommand(), a.auditCommand(), a.adoptCommand(),
	}
	for _, command := range commands {
		a.addFlags(command)
	}
	root.AddCommand(commands...)
}

// addFlags adds the flags that say which cluster is meant.
func (a *app) addFlags(command *cobra.Command) {
	flags := command.PersistentFlags()
	flags.StringVar(&a.lab, "lab", defaultLab, "the lab to talk to")
	flags.StringVar(&a.config, "config", "", "a file that says where a real cluster's services are, instead of a lab")
	flags.DurationVar(&a.timeout, "timeout", 0, fmt.Sprintf(
		"how long the command may take, waiting included (default %s for a question, %s for a change, and %s more for the nodes)",
		answerTime, changeTime, nodesTime))
	_ = command.RegisterFlagCompletionFunc("lab", cobra.NoFileCompletions) // the flag was added above
}

// work is what a command does with a cluster.
type work func(ctx context.Context, s *session, command *cobra.Command, args []string) error

// ask makes a cobra function of a question.
func (a *app) ask(do work) func(*cobra.Command, []string) error { return a.run(answerTime, do) }

// change makes a cobra function of a change.
func (a *app) change(do work) func(*cobra.Command, []string) error { return a.run(changeTime, do) }

// patience bounds the time of a command that does not ask a service first.
func (a *app) patience(command *cobra.Command, usual time.Duration) (context.Context, context.CancelFunc) {
	if command.Flags().Changed("timeout") {
		usual = a.timeout
	}
	return context.WithTimeout(command.Context(), usual)
}

// run makes a cobra function of work: it connects, bounds the time, and words
// the error.
func (a *app) run(patience time.Duration, do work) func(*cobra.Command, []string) error {
	return func(command *cobra.Command, args []string) error {
		command.SilenceUsage = true // the command line was right; the rest is no question of usage
		nodes := nodesTime
		if command.Flags().Changed("timeout") {
			patience, nodes = a.timeout, 0
		}
		ctx, cancel := context.WithTimeout(command.Context(), patience)
		defer cancel()
		s, err := a.open(ctx)
		if err != nil {
			return err
		}
		defer s.close()
		s.nodesTime = nodes
		return explain(do(ctx, s, command, args))
	}
}
