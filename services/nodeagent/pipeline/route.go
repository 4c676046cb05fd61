package pipeline

import "github.com/damask-sdn/damask/services/nodeagent/openflow"

// route is table 30: it sorts packets by destination.
func route(n Node) []openflow.Flow {
	flows := []openflow.Flow{
		flow(tableRoute, 300, openflow.ARP().ARPTarget(host(n.Gateway)), openflow.Output(PortGateway)),
		flow(tableRoute, 300, openflow.IP().IPDst(host(n.Gateway)), openflow.Output(PortGateway)),
	}
	flows = append(flows, fromNodes(n)...)
	flows = append(flows, track(n)...)
	flows = append(flows,
		flow(tableRoute, 200, openflow.ARP().ARPTarget(n.Subnet), openflow.Goto(tableARPLocal)),
		flow(tableRoute, 200, openflow.IP().IPDst(n.Subnet), openflow.Goto(tableLocal)),
	)
	for _, cluster := range n.ClusterNetworks {
		flows = append(flows, flow(tableRoute, 100, openflow.ARP().ARPTarget(cluster), openflow.Goto(tableARPRemote)))
	}
	for _, services := range n.ServiceNetworks {
		flows = append(flows, flow(tableRoute, 100, openflow.IP().IPDst(services), openflow.Goto(tableService)))
	}
	for _, cluster := range n.ClusterNetworks {
		flows = append(flows, flow(tableRoute, 100, openflow.IP().IPDst(cluster), openflow.Goto(tableRemote)))
	}
	flows = append(flows, routeMulticast(n)...)
	return append(flows,
		flow(tableRoute, 0, openflow.IP(), openflow.Goto(tableLeave)),
		flow(tableRoute, 0, openflow.ARP()),
	)
}
