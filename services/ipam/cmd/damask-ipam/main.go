// Command damask-ipam is the service that gives each node its pod subnet.
package main

import (
	"os"

	"github.com/damask-sdn/damask/internal/daemon"
	"github.com/damask-sdn/damask/services/ipam"
)

func main() {
	os.Exit(daemon.Program[ipam.Config]{
		Name:       "damask-ipam",
		ConfigFile: "/etc/damask/ipam.yaml",
		Load:       ipam.Load,
		Log:        func(cfg ipam.Config) daemon.Log { return cfg.Log },
		Run:        ipam.Run,
	}.Main())
}
