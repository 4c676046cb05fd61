package pipeline

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// MulticastParts is in how many parts the other nodes are flooded: the nodes of a part
// share a flow, so a node that comes or goes changes one part, and the flow of a part
// fits into a message with any number of nodes that a cluster can have.
const MulticastParts = 32

// Multicast is the pods of this node that exchange multicast within a VNID.
type Multicast struct {
	// VNID is 0 to 16777215. VNID 0 is a tenant like any other here: its multicast is
	// its own, and reaches nobody else.
	VNID uint32
	// Pods are those whose namespace has multicast enabled.
	Pods []Pod
}

// MulticastFragment lets some pods send to multicast groups (table 110), and receive
// what others of their VNID send, on this node or another (120). Whoever is not among
// them neither sends nor receives. There is none without tenants: nothing would keep
// multicast from other tenants.
func MulticastFragment(n Node, m Multicast) Fragment {
	f := Fragment{Owner: fmt.Sprintf("multicast vnid %d", m.VNID)}
	if !n.tenants() || m.VNID > MaxVNID {
		return f
	}
	var ports []uint32
	for _, p := range m.Pods {
		if p.safe(n) {
			ports = append(ports, p.Port)
		}
	}
	slices.Sort(ports)
	ports = slices.Compact(ports)
	if len(ports) == 0 {
		return f
	}
	var deliver []openflow.Action
	for _, port := range ports {
		// By its port, not only by its VNID: the node itself sends as VNID 0.
		f.Flows = append(f.Flows, flow(tableMulticastSend, 100, openflow.IP().Reg(regSource, m.VNID).InPort(port),
			openflow.Goto(tableMulticastNodes)))
		// The switch leaves out the port that a packet came in by.
		deliver = append(deliver, openflow.Output(port))
	}
	f.Flows = append(f.Flows, flow(tableMulticastLocal, 100, openflow.IP().Reg(regSource, m.VNID), deliver...))
	return f
}

// MulticastPartFragment floods the other nodes of a part, 0 to MulticastParts-1. It is
// for nodes with pods that send; those that only receive need none.
func MulticastPartFragment(n Node, part int, nodes []netip.Addr) Fragment {
	f := Fragment{Owner: fmt.Sprintf("multicast part %d", part)}
	var send []openflow.Action
	for _, node := range slices.SortedFunc(slices.Values(nodes), netip.Addr.Compare) {
		if node != n.HostIP {
			send = append(send, openflow.SetTunDst(node), openflow.Output(PortTunnel))
		}
	}
	if !n.tenants() || len(send) == 0 || part < 0 || part >= MulticastParts {
		return f
	}
	f.Flows = []openflow.Flow{
		flow(tableMulticastNodes, 100, openflow.IP().Reg(regPlace, placeOf(part)), send...),
	}
	return f
}

// placeOf is what the register has for a part. It is never 0, by which the flow that
// asks the parts is found.
func placeOf(part int) uint32 { return uint32(part) + 1 }

// multicastBase is what multicast has on every node: nobody sends, and nobody
// receives. Table 111 asks each part for its nodes and then leads on to the pods of
// this one.
func multicastBase(n Node) []openflow.Flow {
	flows := []openflow.Flow{
		flow(tableMulticastSend, 0, openflow.Any()),
		flow(tableMulticastNodes, 0, openflow.Any()),
		flow(tableMulticastLocal, 0, openflow.Any()),
	}
	if !n.tenants() {
		return flows
	}
	ask := []openflow.Action{openflow.MoveRegToTunID(regSource)}
	for part := range MulticastParts {
		ask = append(ask, openflow.LoadReg(regPlace, placeOf(part)), openflow.Resubmit(tableMulticastNodes))
	}
	ask = append(ask, openflow.Goto(tableMulticastLocal))
	return append(flows, flow(tableMulticastNodes, 100, openflow.IP().Reg(regPlace, 0), ask...))
}

// routeMulticast is the part of table 30 for multicast: from other nodes it is for the
// pods of this one, from pods for everybody of their VNID. In no mode it leaves by tun0.
func routeMulticast(n Node) []openflow.Flow {
	arrives, sent := openflow.IP().InPort(PortTunnel).IPDst(multicast()), openflow.IP().IPDst(multicast())
	if !n.tenants() {
		return []openflow.Flow{flow(tableRoute, 50, arrives), flow(tableRoute, 25, sent)}
	}
	return []openflow.Flow{
		flow(tableRoute, 50, arrives, openflow.Goto(tableMulticastLocal)),
		flow(tableRoute, 25, sent, openflow.Goto(tableMulticastSend)),
	}
}

// tenants says whether packets carry VNIDs, by which multicast stays within a tenant.
func (n Node) tenants() bool { return n.vnid(MaxVNID) != 0 }

// multicast is every IPv4 multicast address (RFC 5771).
func multicast() netip.Prefix { return netip.PrefixFrom(netip.AddrFrom4([4]byte{224}), 4) }
