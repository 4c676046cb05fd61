// Package egresspath holds the way out of the cluster by egress IPs against real packets.
//
// It has tests alone. They make three nodes and a host outside in network namespaces, out
// of the agent's own parts (bridge, link, masquerade, intent with pipeline and flowsync,
// egressnode, egressguard, egresshost), without the agent and the control services. The
// host outside writes down the source of every packet that it sees.
//
// They prove what the parts can only prove together: that outside sees the egress IP and
// nothing else, at every moment of a life: start, restart, moves, and damage by hand.
// The nodes have the datapath that DAMASK_DATAPATH names, netdev if it names none.
package egresspath
