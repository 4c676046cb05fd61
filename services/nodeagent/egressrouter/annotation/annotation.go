// Package annotation names the annotations by which a pod asks to be an egress router.
//
// It owns their names and nothing else, for programs that only pass them on: the CNI
// plugin must stay small. What values mean is package egressrouter's.
package annotation

import "strings"

const (
	// Assign asks for a second interface: "true", or the name of one of the node's
	// interfaces. OpenShift SDN's.
	Assign = "pod.network.openshift.io/assign-macvlan"
	// Prefix begins all others. What follows is the name that OpenShift's images have
	// for it as an environment variable; values are written as there.
	Prefix = "egress-router.damask/"
)

// Concerns says whether an annotation is one of these.
func Concerns(key string) bool { return key == Assign || strings.HasPrefix(key, Prefix) }

// Of answers those among a pod's annotations that are these; nil if none is.
func Of(all map[string]string) map[string]string {
	var mine map[string]string
	for key, value := range all {
		if !Concerns(key) {
			continue
		}
		if mine == nil {
			mine = map[string]string{}
		}
		mine[key] = value
	}
	return mine
}
