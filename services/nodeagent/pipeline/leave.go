package pipeline

import "github.com/damask-sdn/damask/services/nodeagent/openflow"

// portDNS is DNS's port (RFC 1035).
const portDNS = 53

// leave is tables 100 and 101: packets for the world outside go out by tun0, where
// the kernel routes and masquerades them.
func leave(n Node) []openflow.Flow {
	node := host(n.HostIP)
	return []openflow.Flow{
		// The node's own resolver, whatever egress IP or firewall a namespace has.
		flow(tableLeave, 200, openflow.TCP().IPDst(node).DstPort(portDNS), openflow.Output(PortGateway)),
		flow(tableLeave, 200, openflow.UDP().IPDst(node).DstPort(portDNS), openflow.Output(PortGateway)),
		flow(tableLeave, 0, openflow.Any(), openflow.Goto(tableLast)),
		flow(tableLast, 0, openflow.Any(), openflow.Output(PortGateway)),
	}
}
