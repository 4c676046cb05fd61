package lab

import (
	"context"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

func (c *commands) killCommand() *cobra.Command {
	var signalName string
	command := &cobra.Command{
		Use:   "kill NODE|SERVICE [PROCESS]",
		Short: "Cut the power of a node, or send a signal to a process",
		Long: "Without PROCESS: a power failure of the node, or the end of all replicas of a service (nats, ipam, tenancy, servicelb, egress).\n" +
			"PROCESS is ovsdb-server, ovs-vswitchd or nodeagent on a node, and a replica such as ipam-1 of a service.\n" +
			"What ended stays ended until `damask lab start`.",
		Args: cobra.RangeArgs(1, 2),
		RunE: func(command *cobra.Command, args []string) error {
			command.SilenceUsage = true
			sig, err := parseSignal(signalName)
			if err != nil {
				return err
			}
			request := &labv1.KillRequest{Target: args[0], Signal: uint32(sig)}
			if len(args) > 1 {
				request.Process = args[1]
			}
			return c.call(command.Context(), func(ctx context.Context, client *client) error {
				answer, err := client.Kill(ctx, request)
				if err != nil {
					return plain(err)
				}
				return printLines(command.OutOrStdout(), answer.GetDone())
			})
		},
	}
	command.Flags().StringVar(&signalName, "signal", "KILL", "the signal, by name or number")
	return command
}

// parseSignal reads "KILL", "SIGKILL", "kill" or "9".
func parseSignal(text string) (unix.Signal, error) {
	if number, err := strconv.ParseUint(text, 10, 7); err == nil && number >= 1 && number <= 64 {
		return unix.Signal(number), nil
	}
	name := strings.ToUpper(text)
	if !strings.HasPrefix(name, "SIG") {
		name = "SIG" + name
	}
	if sig := unix.SignalNum(name); sig != 0 {
		return sig, nil
	}
	return 0, fmt.Errorf("%q is not a signal", text)
}

func (c *commands) startCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "start NODE|SERVICE [PROCESS]",
		Short: "Start what does not run, and wait until it is ready",
		Args:  cobra.RangeArgs(1, 2),
		RunE: func(command *cobra.Command, args []string) error {
			command.SilenceUsage = true
			request := &labv1.StartRequest{Target: args[0]}
			if len(args) > 1 {
				request.Process = args[1]
			}
			return c.call(command.Context(), func(ctx context.Context, client *client) error {
				answer, err := client.Start(ctx, request)
				if err != nil {
					return plain(err)
				}
				return printLines(command.OutOrStdout(), answer.GetDone())
			})
		},
	}
}

func printLines(out io.Writer, lines []string) error {
	for _, line := range lines {
		if _, err := fmt.Fprintln(out, line); err != nil {
			return err
		}
	}
	return nil
}
