// Command damask-nats is the NATS server that holds Damask's state, alone or
// in a cluster. Services can run the same server inside themselves instead.
package main

import (
	"os"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/internal/natsd"
)

func main() {
	os.Exit(daemon.Program[natsd.DaemonConfig]{
		Name:       "damask-nats",
		ConfigFile: "/etc/damask/nats.yaml",
		Load:       natsd.Load,
		Log:        func(cfg natsd.DaemonConfig) daemon.Log { return cfg.Log },
		Run:        natsd.Run,
	}.Main())
}
