// Command damask-egress-router is the proxy in a pod that is an egress router of mode
// http-proxy or dns-proxy. It takes what it shall do from the environment.
package main

import (
	"os"

	"github.com/damask-sdn/damask/services/nodeagent/egressrouter"
	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/relay"
)

func main() { os.Exit(relay.Program(egressrouter.Interface).Main()) }
