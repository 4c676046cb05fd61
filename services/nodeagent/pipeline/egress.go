package pipeline

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/internal/egressmark"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// portDNS is DNS's port (RFC 1035).
const portDNS = 53

// ZoneEgress is the conntrack zone of connections over tun0 on the userspace datapath,
// where zone 0 means nothing: tables 100 and 101 look up in it which side has begun one. The number is
// that of the table.
const ZoneEgress uint16 = tableLeave

// Egress is how packets of one VNID leave the cluster, as this node sees it. VNIDs
// can be shared and namespaces can name some of their pods, so there is one for a
// VNID and not for a namespace: no two can want the same flow.
type Egress struct {
	// VNID is 0 to 16777215.
	VNID uint32
	// Reserved are the bits that marks must leave alone on this node.
	Reserved egressmark.Reserved
	// Hosted is what this node sends out for pods of other nodes.
	Hosted []EgressHosted
	// Whole is how this node's pods of the VNID leave that Pods does not have; nil: as
	// the node.
	Whole *EgressWay
	// Pods are pods of this node that leave in a way of their own, by address.
	Pods map[netip.Addr]EgressWay
}

// EgressHosted is an egress IP that this node holds, ready to be used.
type EgressHosted struct {
	// Slot tells addresses of one VNID on this node apart; package egressmark has its range.
	Slot uint32
	// MatchPods says that only packets from Pods may leave by it; else all of the VNID.
	MatchPods bool
	// Pods are addresses of pods of the cluster.
	Pods []netip.Addr
	// Firewall is the number of the firewall of its namespace.
	Firewall uint32
}

// EgressWay is where packets leave: at one of several places, each connection always
// at the same. A way without places is closed.
type EgressWay []EgressPlace

// EgressPlace is where packets of a VNID leave.
type EgressPlace struct {
	// Node is the address of the node that holds the egress IP; invalid: this node.
	Node netip.Addr
	// Slot is that of the egress IP when it is this node.
	Slot uint32
}

func (p EgressPlace) compare(other EgressPlace) int {
	return cmp.Or(p.Node.Compare(other.Node), cmp.Compare(p.Slot, other.Slot))
}

// EgressFragment leads packets of a VNID to where they leave (table 100). A packet of
// the VNID that comes through the tunnel leaves only by an egress IP that this node
// holds, and else is dropped by the base. There is none in subnet mode, where VNIDs do
// not tell whose packet it is: pods are closed there by Pod.Inside. A VNID above
// MaxVNID has no flows, and a place with a slot out of range is closed.
func EgressFragment(n Node, e Egress) Fragment {
	f := Fragment{Owner: fmt.Sprintf("egress vnid %d", e.VNID)}
	if e.VNID > MaxVNID || n.Mode == Subnet {
		return f
	}
	f.Flows = e.hosted(n)
	f.Flows = append(f.Flows, e.lookups(n)...)
	for _, pod := range e.sorted() {
		f.Flows = append(f.Flows, e.leave(n, 110, e.from().IPSrc(host(pod)), e.Pods[pod])...)
	}
	if e.Whole != nil {
		f.Flows = append(f.Flows, e.leave(n, 100, e.from(), *e.Whole)...)
	}
	return f
}

// from is every IP packet of the VNID.
func (e Egress) from() openflow.Match { return openflow.IP().Reg(regSource, e.VNID) }

func (e Egress) sorted() []netip.Addr {
	return slices.SortedFunc(maps.Keys(e.Pods), netip.Addr.Compare)
}

// hosted lets packets from other nodes leave by the egress IPs of this one. Their own
// nodes have picked the place, and have seen to replies. A packet that two addresses
// claim, as can be for a moment while namespaces join, leaves by none.
func (e Egress) hosted(n Node) []openflow.Flow {
	var flows []openflow.Flow
	tunnel := e.from().InPort(PortTunnel)
	if len(e.Hosted) == 1 && !e.Hosted[0].MatchPods {
		if actions := e.forOther(n, e.Hosted[0]); len(actions) > 0 {
			flows = append(flows, flow(tableLeave, 160, tunnel, actions...))
		}
		return flows
	}
	slots := map[netip.Addr][]EgressHosted{}
	for _, h := range e.Hosted {
		if !h.MatchPods {
			continue
		}
		for _, pod := range h.Pods {
			if !slices.ContainsFunc(slots[pod], func(other EgressHosted) bool { return other.Slot == h.Slot }) {
				slots[pod] = append(slots[pod], h)
			}
		}
	}
	for _, pod := range slices.SortedFunc(maps.Keys(slots), netip.Addr.Compare) {
		var actions []openflow.Action
		if len(slots[pod]) == 1 {
			actions = e.forOther(n, slots[pod][0])
		}
		flows = append(flows, flow(tableLeave, 170, tunnel.IPSrc(host(pod)), actions...))
	}
	return flows
}

// forOther sends what another node's pod sends out by an egress IP of this node, where the firewall of the
// egress IP's namespace judges it; not at all while that is not known.
func (e Egress) forOther(n Node, h EgressHosted) []openflow.Action {
	if h.Firewall == UnknownFirewall {
		return nil
	}
	actions := e.out(n, EgressPlace{Slot: h.Slot})
	if len(actions) == 0 || h.Firewall == NoFirewall {
		return actions
	}
	return slices.Insert(actions, len(actions)-1, openflow.LoadReg(regFirewall, h.Firewall))
}

// lookups pick the place of a connection, where there are several, and find out which
// packets answer a connection from outside: these must leave by the node at which that
// came in, and never by an egress IP. The kernel module knows it, since it shares zone
// 0 with the node. In userspace tables 30 and 101 note it.
func (e Egress) lookups(n Node) []openflow.Flow {
	lookup := lookAgain(n, tableLeave)
	untracked := e.from().CTState(0, openflow.CTTracked)
	var flows []openflow.Flow
	if e.Whole == nil && len(e.Pods) == 0 {
		return nil
	}
	for _, pod := range e.sorted() {
		if places := len(e.usable(e.Pods[pod])); places > 1 {
			flows = append(flows, flow(tableLeave, 145, untracked.IPSrc(host(pod)), openflow.Multipath(places, regPlace), lookup))
		}
	}
	whole := 0
	if e.Whole != nil {
		whole = len(e.usable(*e.Whole))
	}
	switch {
	case whole > 1:
		flows = append(flows, flow(tableLeave, 140, untracked, openflow.Multipath(whole, regPlace), lookup))
	default:
		flows = append(flows, flow(tableLeave, 140, untracked, lookup))
	}
	answer := openflow.CTTracked | openflow.CTReply
	return append(flows, flow(tableLeave, 130, e.from().CTState(answer, answer), openflow.Goto(tableLast)))
}

// leave sends what matches to the place that was picked.
func (e Egress) leave(n Node, priority uint16, match openflow.Match, way EgressWay) []openflow.Flow {
	places := e.usable(way)
	if len(places) == 0 {
		return []openflow.Flow{flow(tableLeave, priority, match)}
	}
	if len(places) == 1 {
		return []openflow.Flow{flow(tableLeave, priority, match, e.out(n, places[0])...)}
	}
	var flows []openflow.Flow
	for i, place := range places {
		flows = append(flows, flow(tableLeave, priority, match.Reg(regPlace, uint32(i)), e.out(n, place)...)) //nolint:gosec // few
	}
	return flows
}

// usable are the places of a way, each once and in order, that have a mark if they need one.
func (e Egress) usable(way EgressWay) []EgressPlace {
	places := slices.Compact(slices.SortedFunc(slices.Values(way), EgressPlace.compare))
	return slices.DeleteFunc(places, func(p EgressPlace) bool {
		_, err := egressmark.Of(e.VNID, p.Slot, e.Reserved)
		return err != nil && !p.Node.IsValid()
	})
}

// out is the way to one place; without a mark there is none.
func (e Egress) out(n Node, place EgressPlace) []openflow.Action {
	if place.Node.IsValid() {
		return []openflow.Action{openflow.MoveRegToTunID(regSource), openflow.SetTunDst(place.Node), openflow.Output(PortTunnel)}
	}
	mark, err := egressmark.Of(e.VNID, place.Slot, e.Reserved)
	if err != nil {
		return nil
	}
	carry := openflow.SetPktMark(mark)
	if n.Userspace {
		carry = openflow.SetEthSrc(egressmark.MAC(mark))
	}
	return []openflow.Action{openflow.SetEthDst(n.GatewayMAC()), carry, openflow.Goto(tableLast)}
}

// leaveBase is what table 100 has without egress IPs: packets for the world outside go on
// to where they leave by this node.
func leaveBase(n Node) []openflow.Flow {
	node := host(n.HostIP)
	return []openflow.Flow{
		// The node's own resolver, whatever egress IP or firewall a namespace has.
		flow(tableLeave, 200, openflow.TCP().IPDst(node).DstPort(portDNS), openflow.Output(PortGateway)),
		flow(tableLeave, 200, openflow.UDP().IPDst(node).DstPort(portDNS), openflow.Output(PortGateway)),
		// This node is not outside.
		flow(tableLeave, 190, openflow.IP().IPDst(node), openflow.Goto(tableLast)),
		flow(tableLeave, 150, openflow.IP().InPort(PortTunnel)),
		flow(tableLeave, 0, openflow.Any(), openflow.Goto(tableLast)),
	}
}

// markForgery drops what a pod sends from a MAC address that carries a mark, by which
// it would leave as somebody else. The kernel's own marks a pod cannot write.
func markForgery(n Node) []openflow.Flow {
	if !n.Userspace {
		return nil
	}
	mac := egressmark.MAC(0)
	return []openflow.Flow{flow(tablePod, 250, openflow.IP().EthSrcMasked(mac, net.HardwareAddr{0xff, 0xff, 0, 0, 0, 0}))}
}

// notByNode ends what a pod with egress IPs sends and no flow of its VNID takes. It is a
// packet that was in connection tracking when the pod's VNID changed: it comes back with
// the old one, which may have no egress IPs, or nobody any more.
func notByNode(pod netip.Prefix) openflow.Flow {
	return flow(tableLeave, 50, openflow.IP().IPSrc(pod))
}

// inside closes a pod towards the world outside, while nobody knows how it leaves.
func inside(pod netip.Prefix) openflow.Flow {
	return flow(tableLeave, 180, openflow.IP().IPSrc(pod))
}
