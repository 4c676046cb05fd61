package pipeline

import (
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Policies judge what a pod sends before table 30, and what is sent to it behind table
// 80. This file is what stands around the tables that package policyflow fills: which
// connection a packet is of, and what becomes of it.
//
// Every packet of the opener's is judged, so that what policies forbid ends there and
// then. Answers pass by connection tracking, in a zone of our own: zone 0 is the node's,
// and what is committed there the kernel could not translate any more. A connection is
// noted when all who are asked on this node have let it pass.

// ZonePolicy is the conntrack zone of policies. The number is that of the table that
// reads it.
const ZonePolicy uint16 = tableKnown

// Tables that policies fill, three for each direction: the administrator's tier,
// NetworkPolicies, the baseline.
const (
	TableEgressAdmin     uint8 = 23
	TableEgressPolicy    uint8 = 24
	TableEgressBaseline  uint8 = 26
	TableIngressAdmin    uint8 = 82
	TableIngressPolicy   uint8 = 83
	TableIngressBaseline uint8 = 84
)

// RegKnown is the register that has what is known of a packet's connection.
const RegKnown = regKnown

// What RegKnown can say.
const (
	KnownNew     uint32 = iota // Nothing: the connection begins, or was forbidden before.
	KnownLetPass               // From the opener of a connection that policies let pass before.
	KnownPassing               // No policy is asked: an answer, or what goes with one.
)

// Marks of connections in ZonePolicy.
const (
	markLetPass   uint32 = iota
	markForbidden        // Policies have stopped it: answers do not pass either.
)

// ephemeral is the bit that tells the ports that clients get from those of servers:
// Linux gives out 32768 and up (net.ipv4.ip_local_port_range), node ports end below.
const ephemeral uint16 = 0x8000

// EgressAllowed, EgressDenied, IngressAllowed and IngressDenied are what policies do
// with a packet.
func EgressAllowed() []openflow.Action { return []openflow.Action{openflow.Goto(tableSent)} }

// EgressDenied says that the pod must not send it.
func EgressDenied() []openflow.Action { return []openflow.Action{openflow.Goto(tableUnsent)} }

// IngressAllowed says that it may enter.
func IngressAllowed() []openflow.Action { return []openflow.Action{openflow.Goto(tableEntered)} }

// IngressDenied says that it must not.
func IngressDenied() []openflow.Action { return []openflow.Action{openflow.Goto(tableKeptOut)} }

// lookUp asks which connection a packet is of; it goes on in table 22.
func lookUp() openflow.Action {
	next := uint8(tableKnown)
	return openflow.CT(openflow.Conntrack{Zone: ZonePolicy, Table: &next})
}

// note remembers the packet's connection as one that may be.
func note() openflow.Action {
	return openflow.CT(openflow.Conntrack{Commit: true, Zone: ZonePolicy, Exec: []openflow.Action{openflow.LoadCTMark(markLetPass)}})
}

// forbid remembers that the packet's connection must not be any more.
func forbid() openflow.Action {
	return openflow.CT(openflow.Conntrack{Commit: true, Zone: ZonePolicy, Exec: []openflow.Action{openflow.LoadCTMark(markForbidden)}})
}

// arrive is table 11: what came through the tunnel for a pod of this node is looked up.
func arrive(n Node) []openflow.Flow {
	if !n.Mode.Policies() {
		return nil
	}
	return []openflow.Flow{
		flow(tableArrive, 200, openflow.IP().IPDst(host(n.Gateway)), openflow.Goto(tableRoute)),
		flow(tableArrive, 100, openflow.IP().IPDst(n.Subnet), lookUp()),
		flow(tableArrive, 0, openflow.Any(), openflow.Goto(tableRoute)),
	}
}

// passage is table 21: what a pod sends is looked up. What it sends to a service is
// judged when the kernel has picked a backend, and sends it back (table 25).
func passage(n Node) []openflow.Flow {
	var flows []openflow.Flow
	if n.Mode.Policies() {
		for _, services := range n.ServiceNetworks {
			flows = append(flows, flow(tablePassage, 200, openflow.IP().IPDst(services), openflow.Goto(tableRoute)))
		}
		flows = append(flows, flow(tablePassage, 100, openflow.IP(), lookUp()))
	}
	return append(flows, flow(tablePassage, 0, openflow.Any(), openflow.Goto(tableRoute)))
}

// known is table 22, where packets come that have been looked up: what needs no
// judgement passes, the rest goes to the policies of its sender.
func known(n Node) []openflow.Flow {
	if !n.Mode.Policies() {
		return nil
	}
	const tracked, answer = openflow.CTTracked, openflow.CTTracked | openflow.CTReply
	pass := []openflow.Action{openflow.LoadReg(regKnown, KnownPassing), openflow.CTClear(), openflow.Goto(tableRoute)}
	flows := []openflow.Flow{
		flow(tableKnown, 350, openflow.IP().CTState(answer, answer).CTMark(markForbidden, ^uint32(0))),
		flow(tableKnown, 340, openflow.IP().CTState(answer, answer), pass...),
		flow(tableKnown, 340, openflow.IP().CTState(tracked|openflow.CTRelated, answer|openflow.CTRelated), pass...),
		// A TCP connection that is older than our notes: nobody can open one this way.
		flow(tableKnown, 330, openflow.TCP().CTState(tracked, answer|openflow.CTEstablished).TCPFlags(0, openflow.TCPSyn).
			SrcPortMasked(0, ephemeral).DstPortMasked(ephemeral, ephemeral), pass...),
	}
	for _, services := range n.ServiceNetworks {
		// The kernel has given a backend's answer the service's address.
		flows = append(flows, flow(tableKnown, 320, openflow.IP().InPort(PortGateway).IPSrc(services), pass...))
	}
	letPass := openflow.IP().CTState(tracked|openflow.CTEstablished, answer|openflow.CTEstablished).CTMark(markLetPass, ^uint32(0))
	if n.KeepConnections {
		flows = append(flows, flow(tableKnown, 200, letPass, pass...))
	} else {
		flows = append(flows,
			flow(tableKnown, 210, letPass.LaterFragment(), openflow.LoadReg(regKnown, KnownLetPass), openflow.Goto(tableSent)),
			flow(tableKnown, 200, letPass, openflow.LoadReg(regKnown, KnownLetPass), openflow.Goto(TableEgressAdmin)))
	}
	// Later fragments have no ports. Nothing comes of them without their head, which is
	// judged. They must be noted where it is: userspace notes whole packets alone.
	flows = append(flows, flow(tableKnown, 190, openflow.IP().LaterFragment(), openflow.Goto(tableSent)))
	return append(flows, flow(tableKnown, 0, openflow.Any(), openflow.Goto(TableEgressAdmin)))
}

// policed is what becomes of packets that policies have judged, and of those in table 81
// that they need not.
func policed(n Node) []openflow.Flow {
	if !n.Mode.Policies() {
		return nil
	}
	out := openflow.OutputReg(regPort)
	flows := []openflow.Flow{
		flow(tableSent, 200, openflow.Any().Reg(regKnown, KnownLetPass), openflow.CTClear(), openflow.Goto(tableRoute)),
		flow(tableSent, 150, openflow.IP().IPDst(host(n.Gateway)), note(), openflow.CTClear(), openflow.Goto(tableRoute)),
		// The destination's policies are still to be asked, in table 82.
		flow(tableSent, 100, openflow.IP().IPDst(n.Subnet), openflow.CTClear(), openflow.Goto(tableRoute)),
		flow(tableSent, 50, openflow.IP(), note(), openflow.CTClear(), openflow.Goto(tableRoute)),
		flow(tableSent, 0, openflow.Any()),
		flow(tableUnsent, 100, openflow.IP().Reg(regKnown, KnownLetPass), forbid()),
		flow(tableUnsent, 0, openflow.Any()),

		// By tun0 to a service: the backend will be judged. Or a backend's answer.
		flow(tableEnter, 200, openflow.Any().Reg(regPort, PortGateway), openflow.Output(PortGateway)),
		flow(tableEnter, 150, openflow.Any().Reg(regKnown, KnownPassing), out),
		flow(tableEnter, 100, openflow.IP().LaterFragment(), openflow.Goto(tableEntered)),
		flow(tableEnter, 0, openflow.Any(), openflow.Goto(TableIngressAdmin)),
		flow(tableEntered, 100, openflow.Any().Reg(regKnown, KnownLetPass), out),
		flow(tableEntered, 50, openflow.IP(), note(), out),
		flow(tableEntered, 0, openflow.Any()),
		flow(tableKeptOut, 100, openflow.IP().Reg(regKnown, KnownLetPass), forbid()),
		flow(tableKeptOut, 0, openflow.Any()),
	}
	return flows
}

// DeniedService is a port of a service that a pod must not ask.
type DeniedService struct {
	ClusterIP netip.Addr
	Port      ServicePort
}

// DeniedServices keeps a pod of this node from services whose backends are no pods, and
// which its policies do not let it ask: what the kernel sends to such a backend does not
// come back, so it is judged on its way there (table 21). A port that does not exist, or
// an address that is no service's, has no flow.
func DeniedServices(n Node, pod netip.Addr, denied []DeniedService) []openflow.Flow {
	var flows []openflow.Flow
	seen := map[DeniedService]bool{}
	for _, d := range denied {
		if seen[d] || !d.Port.exists() || !contains(n.ServiceNetworks, d.ClusterIP) {
			continue
		}
		seen[d] = true
		flows = append(flows, flow(tablePassage, 300, d.Port.match().IPSrc(host(pod)).IPDst(host(d.ClusterIP)).DstPort(d.Port.Port)))
	}
	slices.SortFunc(flows, func(f, g openflow.Flow) int { return f.Key().Compare(g.Key()) })
	return flows
}
