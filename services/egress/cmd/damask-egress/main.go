// Command damask-egress is the egress service: it decides by which address, and
// through which node, a namespace leaves the cluster.
package main

import (
	"os"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/egress"
)

func main() {
	os.Exit(daemon.Program[egress.Config]{
		Name:       "damask-egress",
		ConfigFile: "/etc/damask/egress.yaml",
		Load:       egress.Load,
		Log:        func(c egress.Config) daemon.Log { return c.Log },
		RunLive:    egress.Run,
	}.Main())
}
