// Command damask-tenancy is the tenancy service: it gives namespaces their
// VNIDs, keeps the isolation mode, and knows where pods are.
package main

import (
	"os"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/tenancy"
)

func main() {
	os.Exit(daemon.Program[tenancy.Config]{
		Name:       "damask-tenancy",
		ConfigFile: "/etc/damask/tenancy.yaml",
		Load:       tenancy.Load,
		Log:        func(c tenancy.Config) daemon.Log { return c.Log },
		Run:        tenancy.Run,
	}.Main())
}
