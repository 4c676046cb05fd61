// Command damask-cni is the CNI plugin that attaches pods to the Damask network.
// Container runtimes start it once for each command; see package cni.
package main

import (
	"runtime"

	"github.com/containernetworking/cni/pkg/skel"

	"github.com/damask-sdn/damask/services/nodeagent/cni"
)

func main() {
	// One question, one answer: every further thread must wait for a CPU too, on a
	// node that is busy starting pods. There ADD takes 16 ms on one thread and 22 ms
	// on all; an idle node loses 0.1 ms by it.
	runtime.GOMAXPROCS(1)
	skel.PluginMainFuncs(cni.Functions(), cni.Versions(), cni.About)
}
