// Command damask-cni is the CNI plugin that attaches pods to the Damask network.
// Container runtimes start it once for each command; see package cni.
package main

import (
	"github.com/containernetworking/cni/pkg/skel"

	"github.com/damask-sdn/damask/services/nodeagent/cni"
)

func main() {
	skel.PluginMainFuncs(cni.Functions(), cni.Versions(), cni.About)
}
