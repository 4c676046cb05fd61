package relay

import (
	"os"

	"github.com/damask-sdn/damask/internal/daemon"
)

// Program is damask-egress-router; device leads outward. A container's environment is its
// configuration.
func Program(device string) daemon.Program[Config] {
	return daemon.Program[Config]{
		Name: "damask-egress-router", FromEnvironment: true,
		Load: func(string) (Config, error) { return FromEnvironment(device, os.LookupEnv) },
		Log:  func(c Config) daemon.Log { return c.Log },
		Run:  Run,
	}
}
