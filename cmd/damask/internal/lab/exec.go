package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/enter"
	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

// Exit codes of a command that cannot be started, as shells have them.
const (
	exitNotExecutable = 126
	exitNotFound      = 127
	exitSignal        = 128 // and the signal's number
)

// execCommand makes an `exec` whose place in the lab follows from the arguments
// before "--".
func (c *commands) execCommand(use, short string, least, most int, place func(lab *labv1.Lab, args []string) (enter.Namespaces, error)) *cobra.Command {
	return &cobra.Command{
		Use:   use + " -- COMMAND [ARGS]",
		Short: short,
		Long:  short + ".\nStandard input, output, errors and the exit code are passed through.",
		Args: func(command *cobra.Command, args []string) error {
			before := command.ArgsLenAtDash()
			if before < least || before > most || before == len(args) {
				return fmt.Errorf("usage: %s %s -- COMMAND [ARGS]", command.Parent().CommandPath(), use)
			}
			return nil
		},
		RunE: func(command *cobra.Command, args []string) error {
			command.SilenceUsage = true
			lab, err := c.lab(command.Context())
			if err != nil {
				return err
			}
			before := command.ArgsLenAtDash()
			where, err := place(lab, args[:before])
			if err != nil {
				return err
			}
			return execIn(where, args[before:])
		},
	}
}

// lab asks for the state of the lab.
func (c *commands) lab(ctx context.Context) (*labv1.Lab, error) {
	client, err := connect(c.name)
	if err != nil {
		return nil, err
	}
	defer client.close()
	return client.state(ctx)
}

// execIn runs a command in namespaces with this process's own standard files. It
// is killed when this process is.
func execIn(where enter.Namespaces, args []string) error {
	// System programs must be found also where root's PATH lacks them.
	if err := os.Setenv("PATH", os.Getenv("PATH")+":/usr/local/sbin:/usr/sbin:/sbin"); err != nil {
		return err
	}
	cmd := exec.Command(args[0], args[1:]...)
	if cmd.Err != nil {
		return cannotStart(args[0], cmd.Err)
	}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	dir, err := os.Getwd()
	if err != nil {
		return err
	}
	cmd.Dir = dir // entering a mount namespace loses it
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, unix.SIGINT, unix.SIGQUIT, unix.SIGTERM, unix.SIGHUP, unix.SIGUSR1, unix.SIGUSR2)
	defer signal.Stop(signals)
	err = enter.Run(where, cmd, []string{becomeName}, func(process *os.Process) { go passSignals(signals, process) })
	var exit *exec.ExitError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &exit):
		status := exit.Sys().(syscall.WaitStatus)
		if status.Signaled() {
			return &ExitError{Code: exitSignal + int(status.Signal())}
		}
		return &ExitError{Code: status.ExitStatus()}
	}
	return cannotStart(args[0], err)
}

// passSignals hands signals on. A terminal sends interrupts to the command itself:
// it must not get them twice.
func passSignals(signals <-chan os.Signal, process *os.Process) {
	terminal := isTerminal()
	for sig := range signals {
		if terminal && (sig == unix.SIGINT || sig == unix.SIGQUIT) {
			continue
		}
		_ = process.Signal(sig) // it may have ended
	}
}

func isTerminal() bool {
	_, err := unix.IoctlGetTermios(int(os.Stdin.Fd()), unix.TCGETS)
	return err == nil
}

// becomeName is the hidden command that a command in a lab starts as.
const becomeName = "lab-exec"

func becomeCommand() *cobra.Command {
	return &cobra.Command{
		Use: becomeName + " PATH ARGS...", Hidden: true, DisableFlagParsing: true, Args: cobra.MinimumNArgs(2),
		RunE: func(_ *cobra.Command, args []string) error {
			return cannotStart(args[1], enter.Become(args[0], args[1:]))
		},
	}
}

func cannotStart(program string, err error) error {
	switch {
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, fs.ErrNotExist):
		fmt.Fprintf(os.Stderr, "damask: %s: not found\n", program)
		return &ExitError{Code: exitNotFound}
	case errors.Is(err, fs.ErrPermission):
		fmt.Fprintf(os.Stderr, "damask: %s: not executable\n", program)
		return &ExitError{Code: exitNotExecutable}
	}
	fmt.Fprintf(os.Stderr, "damask: %s: %v\n", program, err)
	return &ExitError{Code: exitNotExecutable}
}

func (c *commands) nodeCommand() *cobra.Command {
	node := &cobra.Command{Use: "node", Short: "Enter a node"}
	node.AddCommand(c.execCommand("exec NODE", "Run a command on a node, with plain ovs-vsctl, ovs-ofctl, iptables and ip working there", 1, 1,
		func(lab *labv1.Lab, args []string) (enter.Namespaces, error) {
			n, err := poweredNode(lab, args[0])
			if err != nil {
				return enter.Namespaces{}, err
			}
			return enter.Process(int(n.GetPid())), nil
		}))
	return node
}

// poweredNode finds a node that is on.
func poweredNode(lab *labv1.Lab, name string) (*labv1.Node, error) {
	for _, n := range lab.GetNodes() {
		if n.GetName() != name {
			continue
		}
		if !n.GetPowered() {
			return nil, fmt.Errorf("node %s is off: `damask lab start --name %s %s` switches it on", name, lab.GetName(), name)
		}
		return n, nil
	}
	return nil, fmt.Errorf("lab %q has no node %q", lab.GetName(), name)
}

func (c *commands) outsideCommand() *cobra.Command {
	outside := &cobra.Command{Use: "outside", Short: "Enter a host outside of the cluster"}
	outside.AddCommand(c.execCommand("exec [HOST]", "Run a command on a host outside of the cluster, the first one if none is named", 0, 1,
		func(lab *labv1.Lab, args []string) (enter.Namespaces, error) {
			for _, host := range lab.GetOutside() {
				if len(args) == 0 || args[0] == host.GetName() {
					where := enter.Process(int(lab.GetPid()))
					where.Net = hostNetns(lab, host)
					return where, nil
				}
			}
			return enter.Namespaces{}, fmt.Errorf("lab %q has no host %q outside", lab.GetName(), args[0])
		}))
	return outside
}
