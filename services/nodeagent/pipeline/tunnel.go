package pipeline

import (
	"net/netip"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Remote is another node.
type Remote struct {
	// Name is the HostSubnet's.
	Name string
	// HostIP is the node's address in the underlay, where tunnels end.
	HostIP netip.Addr
	// Subnets are the networks of its pods.
	Subnets []netip.Prefix
}

// RemoteFragment is the flows of another node: accept what it sends (table 10), send it
// ARP (50) and IP (90) for its pods, and keep tenants apart at its node ports (30). A remote with the address of this node
// has no flows: nothing may come from there, and a tunnel to oneself is a loop.
func RemoteFragment(n Node, r Remote) Fragment {
	f := Fragment{Owner: "hostsubnet " + r.Name}
	if r.HostIP == n.HostIP {
		return f
	}
	next := uint8(tableRoute)
	if n.Mode.Policies() {
		next = tableArrive
	}
	f.Flows = append(f.Flows, flow(tableTunnel, 100, openflow.Any().TunSrc(r.HostIP), openflow.Goto(next)))
	if n.Mode.Tenants() {
		f.Flows = append(f.Flows, flow(tableRoute, 60, openflow.IP().IPDst(host(r.HostIP)), openflow.Goto(tableNodePort)))
	}
	send := []openflow.Action{
		openflow.MoveRegToTunID(regSource), openflow.SetTunDst(r.HostIP), openflow.Output(PortTunnel),
	}
	for _, subnet := range r.Subnets {
		f.Flows = append(f.Flows,
			flow(tableARPRemote, 100, openflow.ARP().ARPTarget(subnet), send...),
			flow(tableRemote, 100, openflow.IP().IPDst(subnet), send...))
	}
	return f
}

// tunnelBase drops what comes from, or goes to, a node that is not known.
func tunnelBase() []openflow.Flow {
	return []openflow.Flow{
		flow(tableTunnel, 0, openflow.Any()),
		flow(tableARPRemote, 0, openflow.Any()),
		flow(tableRemote, 0, openflow.Any()),
	}
}
