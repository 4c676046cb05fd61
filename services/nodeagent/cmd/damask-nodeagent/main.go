// Command damask-nodeagent is the agent of one node.
package main

import (
	"os"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/nodeagent"
)

func main() {
	os.Exit(daemon.Program[nodeagent.Config]{
		Name:       "damask-nodeagent",
		ConfigFile: "/etc/damask/nodeagent.yaml",
		Load:       nodeagent.Load,
		Log:        func(c nodeagent.Config) daemon.Log { return c.Log },
		RunLive:    nodeagent.Run,
	}.Main())
}
