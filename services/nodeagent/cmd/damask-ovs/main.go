// Command damask-ovs runs Open vSwitch on a node whose own has none.
package main

import (
	"os"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/nodeagent/ovshost"
)

func main() {
	os.Exit(daemon.Program[ovshost.Config]{
		Name:       "damask-ovs",
		ConfigFile: "/etc/damask/ovs.yaml",
		Load:       ovshost.Load,
		Log:        func(c ovshost.Config) daemon.Log { return c.Log },
		Run:        ovshost.Run,
	}.Main())
}
