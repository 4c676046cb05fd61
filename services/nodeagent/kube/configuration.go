package kube

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
)

// Reasons of Events about the configuration file that the agent follows.
const (
	reasonConfigurationWrong = "DamaskConfigurationWrong"
	reasonConfigurationWaits = "DamaskConfigurationWaits"
	reasonConfiguration      = "DamaskConfigurationInForce"
)

// ConfigurationSaid has an Event of the Node say what became of the agent's configuration
// file: that it is wrong, that fields wait for the next start, or that neither is so any more. It never waits.
func (a *Adapter) ConfigurationSaid(path string, wrong error, pending []string) {
	node := &corev1.Node{}
	// What tells of a Node by its name, as its kubelet does, is found with it.
	node.Name, node.UID = a.node.Name, types.UID(a.node.Name)
	switch {
	case wrong != nil:
		a.api.Event(node, corev1.EventTypeWarning, reasonConfigurationWrong, fmt.Sprintf("what was read before stays in force: %v", wrong))
	case len(pending) > 0:
		a.api.Event(node, corev1.EventTypeWarning, reasonConfigurationWaits, fmt.Sprintf("%s: these fields count from the agent's next start on: %s", path, strings.Join(pending, ", ")))
	default:
		a.api.Event(node, corev1.EventTypeNormal, reasonConfiguration, path+": all of it is in force")
	}
}
