// Command damask-servicelb is the servicelb service: it keeps Services and
// their endpoints, and hands out their addresses and ports.
package main

import (
	"os"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/servicelb"
)

func main() {
	os.Exit(daemon.Program[servicelb.Config]{
		Name:       "damask-servicelb",
		ConfigFile: "/etc/damask/servicelb.yaml",
		Load:       servicelb.Load,
		Log:        func(c servicelb.Config) daemon.Log { return c.Log },
		Run:        servicelb.Run,
	}.Main())
}
