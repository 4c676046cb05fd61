package pipeline

import "github.com/damask-sdn/damask/services/nodeagent/openflow"

// A node port answers on every node. A pod that asks its own node keeps its address, and
// table 25 knows it again. But another node sees either the address of the pod's node,
// which masquerades, or it masquerades itself: what its kernel sends to a backend then is
// the node's own, and nobody can tell any more whose it was. So tenants are kept apart
// before, in table 61: on the pod's node if it asks another node's address, on the node
// that is asked if it asks that node's gateway address. Where there are no tenants nothing comes there.

// nodePortBase is what table 61 has without services: what is no node port goes where it
// would go without this table.
func nodePortBase(n Node) []openflow.Flow {
	var flows []openflow.Flow
	if n.Mode.Tenants() {
		flows = append(flows,
			// The kernel would put the fragments together, and then see the port. UDP's
			// header fits into the smallest fragment there is, but not every mode of the
			// switch looks there.
			flow(tableNodePort, 90, openflow.TCP().FirstFragment().DstPort(0)),
			flow(tableNodePort, 90, openflow.UDP().FirstFragment().DstPort(0)),
			flow(tableNodePort, 90, openflow.SCTP().FirstFragment().DstPort(0)),
			flow(tableNodePort, 50, openflow.IP().IPDst(host(n.Gateway)), openflow.Output(PortGateway)))
	}
	return append(flows, flow(tableNodePort, 0, openflow.Any(), openflow.Goto(tableLeave)))
}

// fromNodes is the part of table 30 that leads pods of other nodes, which ask the gateway
// address, to table 61. Answers to the node must not come there: a masqueraded connection
// can have any port, that of a node port too. The kernel module shares zone 0 with the
// node, where answers are known. The userspace datapath notes itself what the node sends
// to other nodes.
func fromNodes(n Node) []openflow.Flow {
	if !n.Mode.Tenants() {
		return nil
	}
	again := uint8(tableRoute)
	lookup := openflow.Conntrack{Table: &again}
	if n.Userspace {
		lookup.Zone = ZoneServices
	}
	asked := openflow.IP().InPort(PortTunnel).IPDst(host(n.Gateway))
	flows := []openflow.Flow{
		flow(tableRoute, 350, asked.CTState(0, openflow.CTTracked), openflow.CT(lookup)),
		flow(tableRoute, 350, asked.CTState(openflow.CTTracked, openflow.CTTracked|openflow.CTReply), openflow.Goto(tableNodePort)),
	}
	if !n.Userspace {
		return flows
	}
	for _, cluster := range n.ClusterNetworks {
		flows = append(flows, flow(tableRoute, 150,
			openflow.IP().InPort(PortGateway).IPSrc(host(n.Gateway)).IPDst(cluster),
			openflow.CT(openflow.Conntrack{Commit: true, Zone: ZoneServices}), openflow.Goto(tableRemote)))
	}
	return flows
}
