package pipeline

import (
	"net"
	"net/netip"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Pod is a pod of this node.
type Pod struct {
	// Namespace and Name are Kubernetes' names.
	Namespace, Name string
	// IP is the pod's address.
	IP netip.Addr
	// Port is its OpenFlow port, FirstPodPort or higher.
	Port uint32
	// VNID is its namespace's, 0 to 16777215.
	VNID uint32
	// Inside closes the pod towards the world outside: whether it has egress IPs is not
	// known, or they cannot be used here.
	Inside bool
	// ByEgressIP says that it leaves by egress IPs and by nothing else.
	ByEgressIP bool
	// Firewall is the number of the firewall of its namespace.
	Firewall uint32
	// Resolvers are DNS servers whose answers to the pod are copied to the agent: IPv4,
	// each once.
	Resolvers []netip.AddrPort
}

// protoGRE is GRE's IP protocol number (RFC 2784).
const protoGRE = 47

// MaxVNID is the highest VNID. A tunnel carries 24 bits: a higher one would arrive
// as another tenant's, or as VNID 0, whom everybody lets in.
const MaxVNID = 1<<24 - 1

// safe reports whether the pod can have flows without breaking the isolation of
// others: the gateway's address passes table 80, and ports 1 and 2 are not pods.
func (p Pod) safe(n Node) bool {
	return p.IP.Is4() && p.IP != n.Gateway && p.Port >= FirstPodPort && p.VNID <= MaxVNID
}

// PodFragment is the flows of a pod: pin its addresses to its port (table 20), know it
// again when the kernel sends its packets to services back (25), and deliver ARP (40)
// and IP (70) to it, perhaps with a copy of what DNS servers answer, perhaps keep it from leaving (100), and say whose firewall judges it
// (101). A pod with the gateway's address, a port below FirstPodPort or a VNID above
// MaxVNID has no flows, so nothing passes.
func PodFragment(n Node, p Pod) Fragment {
	owner := "pod " + p.Namespace + "/" + p.Name
	if !p.safe(n) {
		return Fragment{Owner: owner}
	}
	vnid := n.vnid(p.VNID)
	address := host(p.IP)
	mac, mask := senderMAC(p.IP)
	deliver := []openflow.Action{openflow.LoadReg(regDest, vnid), openflow.LoadReg(regPort, p.Port), openflow.Goto(tableAdmission)}
	flows := []openflow.Flow{
		flow(tablePod, 100, openflow.ARP().InPort(p.Port).ARPSender(address).ARPSenderMAC(mac, mask),
			openflow.LoadReg(regSource, vnid), openflow.Goto(tableRoute)),
		flow(tablePod, 100, openflow.IP().InPort(p.Port).IPSrc(address),
			openflow.LoadReg(regSource, vnid), openflow.Goto(tablePassage)),
		returned(n, address, vnid),
		flow(tableARPLocal, 100, openflow.ARP().ARPTarget(address), openflow.Output(p.Port)),
		flow(tableLocal, 100, openflow.IP().IPDst(address), deliver...),
	}
	flows = append(flows, lookups(p, deliver...)...)
	if n.Userspace {
		flows = append(flows, replyToKernel(n, address, vnid, deliver...)...)
	}
	switch {
	case p.Inside:
		flows = append(flows, inside(address))
	case p.ByEgressIP:
		flows = append(flows, notByNode(address))
	}
	flows = append(flows, judged(n, address, p.Firewall)...)
	return Fragment{Owner: owner, Flows: flows}
}

// senderMAC is what a pod may claim in ARP: a MAC's last four bytes are the pod's
// address. The first two are not compared, for pods whose MAC has another prefix.
func senderMAC(ip netip.Addr) (mac, mask net.HardwareAddr) {
	mac = append(net.HardwareAddr{0, 0}, ip.AsSlice()...)
	return mac, net.HardwareAddr{0, 0, 0xff, 0xff, 0xff, 0xff}
}

// podBase drops what a pod must not send: the tunnel's own protocol, by which it
// could speak as a node, and whatever is not from its own address.
func podBase(n Node) []openflow.Flow {
	tunnel := openflow.UDP().DstPort(n.TunnelPort)
	if n.TunnelPort == 0 {
		tunnel = openflow.IP().Proto(protoGRE)
	}
	return append(markForgery(n),
		flow(tablePod, 300, tunnel),
		flow(tablePod, 0, openflow.Any()))
}

// deliveryBase drops what is for a pod of this node that does not exist.
func deliveryBase() []openflow.Flow {
	return []openflow.Flow{
		flow(tableARPLocal, 0, openflow.Any()),
		flow(tableLocal, 0, openflow.Any()),
	}
}
