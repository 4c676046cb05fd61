// Command damask is what an operator uses: it asks and changes a cluster, and
// `damask lab` builds one out of network namespaces.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra"

	"github.com/damask-sdn/damask/cmd/damask/internal/cli"
	"github.com/damask-sdn/damask/cmd/damask/internal/lab"
	"github.com/damask-sdn/damask/internal/daemon"
)

func main() {
	root := &cobra.Command{
		Use:           "damask",
		Short:         "Look at and change a Damask pod network",
		Version:       daemon.Version(),
		SilenceErrors: true, // main shows them
		SilenceUsage:  true, // an error is one sentence; --help has the rest
	}
	cli.AddCommands(root, lab.Connector{})
	lab.AddCommands(root)
	err := root.Execute()
	code, silent := lab.ExitCode(err)
	if !silent {
		fmt.Fprintf(os.Stderr, "damask: %v\n", err)
	}
	os.Exit(code)
}
