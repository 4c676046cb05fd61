// Package outside judges where services lead outside of the cluster, so that none leads a pod
// past its namespace's firewall or egress IPs.
//
// It owns two answers: which endpoints of services a pod of this node may reach, which Guard
// tells the kernel (package firewallguard), and which endpoints a service has at all on this
// node, which Slices tell the service engine (package svcsync). Both come from the same rules
// (intent.State), and both are closed where the rules are not known. It promises that a slice
// of pods alone, as nearly all are, costs nothing, and that a rule costs what it concerns.
//
// It must not judge packets that leave without a service: that is the pipeline's.
package outside
