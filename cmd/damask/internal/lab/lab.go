// Package lab is `damask lab`: a cluster out of network namespaces.
//
// It owns the commands that start, stop, look at and enter labs. It promises that
// the host's own network is left alone and that a lab leaves nothing behind. The
// lab itself lives in a supervisor (package supervisor) that these commands talk
// to; they must hold no state of their own.
package lab

import (
	"errors"
	"os"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/datapath"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/nodeinit"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/statedir"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab/supervisor"
	"github.com/damask-sdn/damask/internal/daemon"
)

const (
	// defaultName is the lab that commands mean when none is named.
	defaultName = "lab1"
	// callTimeout bounds what changes a lab. Starting a node with many pods takes
	// its time; the supervisor has shorter limits for each part.
	callTimeout = 10 * time.Minute
)

// commands is what the commands share.
type commands struct {
	name string
}

// AddCommands adds `lab` to root, and the hidden commands that a lab's own
// processes are.
func AddCommands(root *cobra.Command) {
	c := &commands{}
	lab := &cobra.Command{
		Use:   "lab",
		Short: "Build a cluster out of network namespaces on this machine",
		Long: "A lab is a whole cluster on this machine: nodes with their own Open vSwitch and node agent, the control services\n" +
			"and NATS as real processes, pods attached by the CNI plugin, and a host outside. It needs root, and leaves the\n" +
			"machine's own interfaces, routes, firewall and Open vSwitch alone.",
	}
	lab.PersistentFlags().StringVar(&c.name, "name", defaultName, "which lab")
	_ = lab.RegisterFlagCompletionFunc("name", completeNames) // the flag was added above
	lab.AddCommand(c.upCommand(), c.downCommand(), c.statusCommand(), c.podCommand(), c.nodeCommand(), c.outsideCommand(), c.killCommand(), c.startCommand(), c.unplugCommand(), c.plugCommand())
	root.AddCommand(lab, supervisorCommand(), nodeCommand(), becomeCommand())
}

func completeNames(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	names, err := statedir.Names()
	if err != nil {
		return nil, cobra.ShellCompDirectiveError
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// supervisorCommand is the first process of a lab.
func supervisorCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lab-supervisor NAME BINARIES DATAPATH", Hidden: true, SilenceUsage: true, Args: cobra.ExactArgs(3),
		RunE: func(_ *cobra.Command, args []string) error {
			dir, err := statedir.Of(args[0])
			if err != nil {
				return err
			}
			how, err := datapath.Of(args[2])
			if err != nil {
				return err
			}
			log := daemon.Log{}.New("lab-supervisor", os.Stderr)
			err = supervisor.Run(supervisor.Config{Dir: dir, Binaries: args[1], Datapath: how, Self: "/proc/self/exe"}, log)
			log.Error("the lab ends", "error", err)
			return err
		},
	}
}

// nodeCommand is the first process of a node.
func nodeCommand() *cobra.Command {
	return &cobra.Command{
		Use: "lab-node NAME", Hidden: true, SilenceUsage: true, Args: cobra.ExactArgs(1),
		RunE: func(_ *cobra.Command, args []string) error { return nodeinit.Run(args[0]) },
	}
}

// binaries is the directory of this program, where the others are too.
func binaries() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", err
	}
	self, err = filepath.EvalSymlinks(self)
	return filepath.Dir(self), err
}

// ExitError is the end of a command that was run in a lab: its exit code is this
// program's.
type ExitError struct {
	// Code is the exit code; 128 and the signal's number after a signal.
	Code int
}

// Error is never shown: the command has said what there is to say.
func (e *ExitError) Error() string { return "the command failed" }

// ExitCode is the exit code that an error stands for.
func ExitCode(err error) (code int, silent bool) {
	if err == nil {
		return 0, true
	}
	if exit, ok := errors.AsType[*ExitError](err); ok {
		return exit.Code, true
	}
	return 1, false
}
