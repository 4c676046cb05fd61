// Package ovshost runs Open vSwitch on a node: ovsdb-server and ovs-vswitchd.
//
// It owns their start in order, the database file with its schema, the restart of
// whichever ends, and the few settings that belong to a host and not to a network. It
// promises that two instances never fight: the second one waits until the first one is
// gone, whoever started it. It promises too that what the operator has set stays, that a
// database is never thrown away, and that the kernel's datapath forwards on when it
// stops. It must not touch bridges, ports or flows: those are the agent's.
//
// Used by damask-ovs.
package ovshost
