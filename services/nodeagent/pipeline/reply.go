package pipeline

import (
	"encoding/binary"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// A pod's packet to a service goes out by tun0. The kernel picks a backend, rewrites
// the destination and sends the packet back by tun0, still from the pod's address. The
// backend answers the pod, and not the kernel: so somebody on the pod's node must make
// the answer come from the service's address. This file sees to both.

// ZoneServices is the conntrack zone of the userspace datapath that knows the
// connections to services. Any number but 0 would do; it is that of the table that
// commits.
const ZoneServices uint16 = tableReturn

// returned gives a packet that the kernel sends back the VNID of the pod that sent it.
// The userspace datapath notes the connection, so that it knows the answer. It goes on
// in table 30, since a goto leads forward only; 21 has seen the packet on its way out.
// Policies have not: they judge the backend, so the packet is looked up for them now.
func returned(n Node, pod netip.Prefix, vnid uint32) openflow.Flow {
	actions := []openflow.Action{openflow.LoadReg(regSource, vnid)}
	if n.Userspace {
		actions = append(actions, openflow.CT(openflow.Conntrack{Commit: true, Zone: ZoneServices,
			Exec: []openflow.Action{openflow.LoadCTMark(opener(pod.Addr()))}}))
	}
	if n.Mode.Policies() {
		return flow(tableReturn, 100, openflow.IP().IPSrc(pod), append(actions, lookUp())...)
	}
	return flow(tableReturn, 100, openflow.IP().IPSrc(pod), append(actions, openflow.Goto(tableRoute))...)
}

// returnBase drops what the kernel sends back for a pod that does not exist.
func returnBase() []openflow.Flow {
	return []openflow.Flow{flow(tableReturn, 0, openflow.Any())}
}

// track is the part of table 30 that asks whether a packet for a pod of this node
// answers one that went to a service. The kernel module shares zone 0 with the node,
// so there the same lookup gives the answer its service address back; the table sees
// the packet once more afterwards, tracked. What the kernel itself sends has been
// through its own lookup; in userspace it is noted whether what is from outside begins a
// connection, so that the answers of pods are known as such.
func track(n Node) []openflow.Flow {
	again := uint8(tableRoute)
	lookup := openflow.Conntrack{Table: &again, NAT: &openflow.NAT{}}
	if n.Userspace {
		lookup = openflow.Conntrack{Table: &again, Zone: ZoneServices}
	}
	fromKernel := openflow.IP().InPort(PortGateway).IPDst(n.Subnet)
	flows := []openflow.Flow{flow(tableRoute, 275, fromKernel, openflow.Goto(tableLocal))}
	if n.Userspace {
		flows = []openflow.Flow{flow(tableRoute, 275, fromKernel, noteDirection(), openflow.Goto(tableLocal))}
		for _, inside := range slices.Concat(n.ClusterNetworks, n.ServiceNetworks) {
			flows = append(flows, flow(tableRoute, 276, fromKernel.IPSrc(inside), openflow.Goto(tableLocal)))
		}
	}
	for _, cluster := range n.ClusterNetworks {
		flows = append(flows, flow(tableRoute, 250,
			openflow.IP().CTState(0, openflow.CTTracked).IPSrc(cluster).IPDst(n.Subnet), openflow.CT(lookup)))
	}
	return flows
}

// opener is the mark of connections of ZoneServices: the address of the pod that has
// begun them. Of a packet that is outside of a connection's window userspace says nothing
// but that mark, and not which direction it is of. To that pod it is an answer.
func opener(pod netip.Addr) uint32 {
	a := pod.As4()
	return binary.BigEndian.Uint32(a[:])
}

// replyToKernel leads an answer to the kernel instead of the pod, because the kernel
// alone knows the service's address. The check of table 80 is the same: the answer is
// still from the backend, to the pod. What another zone calls an answer is none of these.
//
// So is what is outside of TCP's window: from the backend's address it would be of no
// connection that the pod knows, and the pod's reset would end the one that it is of. The
// kernel tracks that too: it drops what does not fit, or finds that it does.
//
// A SYN+ACK that does not fit is another matter. The pod has used the port again, for a
// connection to the backend itself, and what the zone remembers is over: it is forgotten.
func replyToKernel(n Node, pod netip.Prefix, vnid uint32, deliver ...openflow.Action) []openflow.Flow {
	const (
		answer = openflow.CTTracked | openflow.CTReply
		misfit = openflow.CTTracked | openflow.CTInvalid
		// A packet with none of these is a misfit: beside the word itself the switch refuses a commit.
		fits    = openflow.CTNew | openflow.CTEstablished | openflow.CTRelated | openflow.CTReply
		another = openflow.TCPSyn | openflow.TCPAck
	)
	toKernel := []openflow.Action{openflow.LoadReg(regDest, vnid), openflow.LoadReg(regPort, PortGateway),
		openflow.SetEthDst(n.GatewayMAC()), openflow.Goto(tableAdmission)}
	forget := openflow.CT(openflow.Conntrack{Commit: true, Force: true, Zone: ZoneServices})
	ofAnswers := openflow.TCP().CTZone(ZoneServices).CTMark(opener(pod.Addr()), ^uint32(0)).IPDst(pod)
	return []openflow.Flow{
		flow(tableLocal, 200, openflow.IP().CTState(answer, answer).CTZone(ZoneServices).IPDst(pod), toKernel...),
		flow(tableLocal, 200, ofAnswers.CTState(misfit, misfit).TCPFlags(0, openflow.TCPSyn), toKernel...),
		flow(tableLocal, 200, ofAnswers.CTState(openflow.CTTracked, openflow.CTTracked|fits).TCPFlags(another, another),
			append([]openflow.Action{forget}, deliver...)...),
	}
}
