// Package kube is what a node's agent is to Kubernetes.
//
// It owns, of the agent's own Node, the condition NetworkUnavailable and the taint Taint; and
// it reads what the Pods on it say of their bandwidth.
// It promises that a node on which no pod can be added yet is told so with what is
// missing, that the condition is False and the taint gone once pods can be added, and that
// a node which works is never told otherwise: neither the agent's start nor an API server
// that comes back makes it unschedulable. A pod is as fast as its annotations say, from when
// they are read on and until they say something else; what they say wrong changes nothing, and
// an Event of the Pod says what it is. It writes when something is to change, and never
// waits for the API server where anybody waits for it.
//
// It must not write anything of another node; the ValidatingAdmissionPolicy in
// deploy/kustomize/base/nodeagent-own-node.yaml sees to it that nobody can with an agent's
// credentials. It must not decide whether the node is ready.
//
// Used by services/nodeagent, if it is configured.
package kube
