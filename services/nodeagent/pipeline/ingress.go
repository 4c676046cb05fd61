package pipeline

import "github.com/damask-sdn/damask/services/nodeagent/openflow"

// ingress is table 0: it sorts packets by the port that they came in by.
func ingress(n Node) []openflow.Flow {
	tunnel, gateway := PortTunnel, PortGateway
	flows := []openflow.Flow{
		flow(tableIngress, 400, openflow.IP().InPort(gateway).IPSrc(host(n.Gateway)), openflow.Goto(tableRoute)),
	}
	for _, cluster := range n.ClusterNetworks {
		flows = append(flows,
			// A pod's packet to a service, which the kernel has led to a backend.
			flow(tableIngress, 300, openflow.IP().InPort(gateway).IPSrc(n.Subnet).IPDst(cluster), openflow.Goto(tableReturn)))
	}
	flows = append(flows, flow(tableIngress, 250, openflow.IP().InPort(gateway).IPDst(multicast())))
	admit := func(match openflow.Match) openflow.Flow {
		return flow(tableIngress, 200, match.InPort(tunnel), openflow.MoveTunIDToReg(regSource), openflow.Goto(tableTunnel))
	}
	for _, cluster := range n.ClusterNetworks {
		flows = append(flows,
			admit(openflow.ARP().ARPSender(cluster).ARPTarget(n.Subnet)),
			admit(openflow.IP().IPSrc(cluster)),
			admit(openflow.IP().IPDst(cluster)),
			flow(tableIngress, 200, openflow.ARP().InPort(gateway).ARPSender(host(n.Gateway)).ARPTarget(cluster),
				openflow.Goto(tableRoute)))
	}
	if n.Mode.Policies() {
		flows = append(flows, flow(tableIngress, 210, openflow.IP().InPort(gateway).IPDst(n.Subnet), lookUp()))
	}
	return append(flows,
		flow(tableIngress, 200, openflow.IP().InPort(gateway), openflow.Goto(tableRoute)),
		flow(tableIngress, 150, openflow.Any().InPort(tunnel)),
		flow(tableIngress, 150, openflow.Any().InPort(gateway)),
		flow(tableIngress, 100, openflow.ARP(), openflow.Goto(tablePod)),
		flow(tableIngress, 100, openflow.IP(), openflow.Goto(tablePod)),
		flow(tableIngress, 0, openflow.Any()),
	)
}
