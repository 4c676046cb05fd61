package pipeline

import "github.com/damask-sdn/damask/services/nodeagent/openflow"

// When the flows of OpenShift SDN go, packets are under way: what its flows have sent to
// connection tracking comes back to a table of its pipeline, which has our flows by then.
// It is more than a few packets: the switch corrects what it has cached piece by piece, so
// for a while its first half of a packet's way is followed by our second half. Such packets
// are known by a conntrack state that ours do not have at that place.
//
// Where policies decide, connections are under way that only its notes know, in zone 0: by
// them answers pass that ours, in zone 22, do not know yet.
//
// All of this is there for a while after a takeover: see Node.Succeeds.

// tableFormer is where the commit of OpenShift SDN's flows came back: it routed there.
const tableFormer = 31

// zoneFormer is the conntrack zone of OpenShift SDN's flows, which is also the kernel's.
const zoneFormer uint16 = 0

// knownByKernel is in regKnown, until zone 22 was asked, when the kernel has said that
// what it sends is an answer.
const knownByKernel uint32 = 3

// succession is what a node has for a while after it was OpenShift SDN's.
func succession(n Node) []openflow.Flow {
	if !n.Succeeds {
		return nil
	}
	const tracked = openflow.CTTracked
	again := []openflow.Action{openflow.CTClear(), openflow.Resubmit(tableIngress)}
	// By tun0 packets come tracked, since the kernel has done it.
	flows := []openflow.Flow{
		flow(tableIngress, 220, openflow.IP().InPort(PortTunnel).CTState(tracked, tracked), again...),
		flow(tableIngress, 110, openflow.IP().CTState(tracked, tracked), again...),
	}
	if !n.Mode.Policies() {
		return flows
	}
	const answer, unknown = tracked | openflow.CTReply, tracked | openflow.CTReply | openflow.CTEstablished
	known := uint8(tableKnown)
	flows = append(flows,
		// What zone 22 does not know zone 0 is asked for. It comes back to table 22, where
		// answers take the same flows as those of zone 22.
		flow(tableKnown, 300, openflow.IP().CTState(tracked, answer).CTZone(zoneFormer), openflow.Goto(TableEgressAdmin)),
		flow(tableKnown, 180, openflow.IP().CTState(tracked, unknown).CTZone(ZonePolicy), openflow.CT(openflow.Conntrack{Zone: zoneFormer, Table: &known})),
		flow(tableFormer, 100, openflow.IP(), again...),
		// Its lookup with nat came back to table 70: an answer.
		flow(tableEnter, 140, openflow.IP().CTState(answer, answer).CTZone(zoneFormer).Reg(regKnown, KnownNew), openflow.OutputReg(regPort)),
	)
	if n.Userspace {
		return flows // No state crosses tun0.
	}
	pass := []openflow.Action{openflow.LoadReg(regKnown, KnownPassing), openflow.CTClear(), openflow.Goto(tableRoute)}
	return append(flows,
		flow(tableIngress, 215, openflow.IP().InPort(PortGateway).IPDst(n.Subnet).CTState(answer, answer), openflow.LoadReg(regKnown, knownByKernel), lookUp()),
		flow(tableKnown, 186, openflow.IP().CTState(tracked, unknown).Reg(regKnown, knownByKernel), pass...),
		flow(tableKnown, 185, openflow.IP().Reg(regKnown, knownByKernel), openflow.LoadReg(regKnown, KnownNew), openflow.Goto(TableEgressAdmin)),
	)
}

// successionMeanings are those of the flows above.
var successionMeanings = []meaning{
	{tableIngress, "priority=220,ct_state=+trk,ip,in_port=1 actions=ct_clear,resubmit(,0)",
		"from another node, under way since OpenShift SDN's flows looked it up: once more"},
	{tableIngress, "priority=110,ct_state=+trk,ip actions=ct_clear,resubmit(,0)",
		"from a pod, under way since OpenShift SDN's flows looked it up: once more"},
	{tableIngress, "priority=215,ct_state=+rpl+trk,ip,in_port=2,nw_dst={subnet} actions=load:0x3->NXM_NX_REG4[],ct(table=22,zone={zone})",
		"routed by this node, for a pod of this node, and to the kernel an answer: which connection is it of?"},
	{tableKnown, "priority=300,ct_state=-rpl+trk,ct_zone=0,ip actions=goto_table:23",
		"nor does OpenShift SDN's zone know it as an answer: may it?"},
	{tableKnown, "priority=186,ct_state=-est-rpl+trk,ip,reg4=0x3 actions=load:0x2->NXM_NX_REG4[],ct_clear,goto_table:30",
		"not known here, and to the kernel an answer: passes"},
	{tableKnown, "priority=185,ip,reg4=0x3 actions=load:0->NXM_NX_REG4[],goto_table:23",
		"to the kernel an answer, and here of a connection that policies have stopped: may it?"},
	{tableKnown, "priority=180,ct_state=-est-rpl+trk,ct_zone={zone},ip actions=ct(table=22)",
		"not known here: does it answer a connection of OpenShift SDN's time?"},
	{tableFormer, "priority=100,ip actions=ct_clear,resubmit(,0)",
		"under way since OpenShift SDN's flows noted its connection: once more"},
	{tableEnter, "priority=140,ct_state=+rpl+trk,ct_zone=0,ip,reg4=0 actions=output:NXM_NX_REG2[]",
		"an answer, under way since OpenShift SDN's flows gave it its address: passes"},
}
