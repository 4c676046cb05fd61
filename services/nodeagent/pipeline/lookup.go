package pipeline

import "github.com/damask-sdn/damask/services/nodeagent/openflow"

// lookupPriority is above what leads to pods, and below what leads a backend's answer to the
// kernel first: from there it comes back by the service's address.
const lookupPriority = 150

// lookups copies what DNS servers answer to a pod: its namespace may reach all names below
// some, and which there are only pods know. Only the servers that the node is configured
// with are listened to. They cannot be spoofed by pods, whose addresses table 20 pins.
func lookups(p Pod, deliver ...openflow.Action) []openflow.Flow {
	flows := make([]openflow.Flow, 0, len(p.Resolvers))
	for _, server := range p.Resolvers {
		flows = append(flows, flow(tableLocal, lookupPriority,
			openflow.UDP().IPSrc(host(server.Addr())).IPDst(host(p.IP)).SrcPort(server.Port()),
			append([]openflow.Action{openflow.Copy(MeterLookups)}, deliver...)...))
	}
	return flows
}
