// Package nodeagent is the agent of one node: it attaches pods, keeps the
// bridge and its flows as the cluster wants them, and answers what it does and
// why.
//
// It owns the order of things: what must be known before the switch is
// touched, what is repaired at start and in audits, and how what the control
// services say reaches the switch. The work itself is in the packages below:
// intent → pipeline → flowsync → openflow for flows, bridge for OVSDB, link
// for netlink, masquerade for iptables, attach and lease for pods, svcsync and
// proxy for Services, outside for where they lead past the cluster.
//
// It promises that starting, stopping or crashing costs no packet: a start is
// a comparison, and a stop leaves everything as it is. It must never remove
// what it does not know to be wrong.
package nodeagent
