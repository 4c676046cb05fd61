package lab

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"google.golang.org/protobuf/encoding/protojson"

	labv1 "github.com/damask-sdn/damask/proto/damask/lab/v1"
)

func (c *commands) statusCommand() *cobra.Command {
	var format string
	command := &cobra.Command{
		Use:   "status",
		Short: "Tell what is in a lab, what runs and where the logs are",
		Args:  cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			if format != "table" && format != "json" {
				return fmt.Errorf("-o %s: table or json", format)
			}
			command.SilenceUsage = true
			lab, err := c.lab(command.Context())
			if err != nil {
				return err
			}
			if format == "table" {
				return printStatus(command.OutOrStdout(), lab)
			}
			text, err := protojson.MarshalOptions{Multiline: true, EmitUnpopulated: true}.Marshal(lab)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(command.OutOrStdout(), "%s\n", text)
			return err
		},
	}
	command.Flags().StringVarP(&format, "output", "o", "table", "how to print: table, json (the API's own message)")
	_ = command.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]string{"table", "json"}, cobra.ShellCompDirectiveNoFileComp)) // the flag was added above
	return command
}

// printStatus prints what a person wants to know.
func printStatus(out io.Writer, lab *labv1.Lab) error {
	w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
	fmt.Fprintf(w, "lab %s on %s, since %s; files in %s\n\n", lab.GetName(), lab.GetUnderlay(),
		lab.GetStartTime().AsTime().Local().Format("2006-01-02 15:04:05"), lab.GetDirectory())
	fmt.Fprintln(w, "SERVICE\tADDRESS\tPROCESS\tSTATE\tPID")
	for _, s := range lab.GetServices() {
		for i, p := range s.GetProcesses() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\n", s.GetName(), s.GetAddresses()[i], p.GetName(), stateWords(p), pidWords(p.GetPid()))
		}
	}
	fmt.Fprintln(w, "\nNODE\tIP\tSUBNET\tPROCESS\tSTATE\tPID")
	for _, n := range lab.GetNodes() {
		name, ip, subnet := n.GetName(), n.GetIp(), n.GetSubnet()
		if !n.GetPowered() {
			fmt.Fprintf(w, "%s\t%s\t%s\t\tpower is off\t\n", name, ip, subnet)
			continue
		}
		if n.GetUnplugged() {
			ip += " (unplugged)"
		}
		for _, p := range n.GetProcesses() {
			fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\n", name, ip, subnet, p.GetName(), stateWords(p), pidWords(p.GetPid()))
			name, ip, subnet = "", "", ""
		}
	}
	fmt.Fprintln(w, "\nOUTSIDE\tIP")
	for _, h := range lab.GetOutside() {
		fmt.Fprintf(w, "%s\t%s\n", h.GetName(), h.GetIp())
	}
	fmt.Fprintln(w, "\nPOD\tNODE\tIP\tSTATE")
	for _, p := range lab.GetPods() {
		state := "attached"
		if !p.GetAttached() {
			state = "not attached: " + p.GetError()
		}
		fmt.Fprintf(w, "%s/%s\t%s\t%s\t%s\n", p.GetNamespace(), p.GetName(), p.GetNode(), strings.Join(p.GetIps(), ","), state)
	}
	fmt.Fprintf(w, "\nlogs: %s/logs/\n", lab.GetDirectory())
	return w.Flush()
}

func stateWords(p *labv1.Process) string {
	switch p.GetState() {
	case labv1.ProcessState_PROCESS_STATE_RUNNING:
		return "running"
	case labv1.ProcessState_PROCESS_STATE_EXITED:
		return "exited (" + p.GetEnding() + ")"
	case labv1.ProcessState_PROCESS_STATE_KILLED:
		return "killed (" + p.GetEnding() + ")"
	default:
		return "not started"
	}
}

func pidWords(pid uint32) string {
	if pid == 0 {
		return ""
	}
	return fmt.Sprint(pid)
}
