package pipeline

import (
	"math"
	"net/netip"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Numbers of firewalls, as register 5 has them. From FirstFirewall up to UnknownFirewall
// they are namespaces'.
const (
	// NoFirewall lets everything out.
	NoFirewall uint32 = 0
	// FirstFirewall is the bit that every other number has.
	FirstFirewall uint32 = 1 << 31
	// UnknownFirewall is for pods of a namespace whose firewall is not known: nothing
	// of theirs gets out.
	UnknownFirewall uint32 = math.MaxUint32
)

// Priorities of table 101. Rules have those from lastRules up.
const (
	lastAnswer   = 65000
	lastUnknown  = 64000
	lastWhose    = 63000
	lastFragment = 62000
	lastClosed   = 61000
	lastRules    = 3
	lastElse     = 2
	lastMissing  = 1
	// MaxFirewallDepth is how many rules of one firewall can each depend on the next.
	MaxFirewallDepth = 60000
)

// Firewall is where the pods of a namespace may go outside of the cluster.
type Firewall struct {
	// Namespace is whose it is.
	Namespace string
	// Number is what register 5 has for its pods, unlike that of every other firewall
	// of the node.
	Number uint32
	// Rules in order: the first that matches decides. What none matches may pass.
	Rules []FirewallRule
}

// FirewallRule lets packets pass, or drops them.
type FirewallRule struct {
	Allow bool
	// To are networks and addresses, IPv4 and canonical. Without any it matches nothing,
	// as a name does that has no address.
	To []netip.Prefix
	// Ports are what it is about; without any, every protocol and port.
	Ports []FirewallPorts
}

// FirewallPorts are destination ports of a protocol.
type FirewallPorts struct {
	Protocol Protocol
	// First and Last are the ends of a range. 0 and 0 are all ports.
	First, Last uint16
}

// FirewallFragment judges what the pods of a namespace send out (table 101), whichever
// VNID they have. A rule has one flow for each of its networks and pieces of port
// ranges; one that no packet can reach has none. A flow's priority says how many rules it must be before,
// and not its place in the list: a rule in the middle of thousands moves only those that overlap it. A
// firewall with rules that depend on one another deeper than MaxFirewallDepth, or with a
// number that is none, is closed.
func FirewallFragment(f Firewall) Fragment {
	fragment := Fragment{Owner: "firewall " + f.Namespace}
	if f.Number < FirstFirewall || f.Number == UnknownFirewall {
		return fragment
	}
	pieces, ok := layered(f.Rules)
	if !ok {
		fragment.Flows = []openflow.Flow{flow(tableLast, lastClosed, openflow.IP().Reg(regFirewall, f.Number))}
		return fragment
	}
	fragment.Flows = append(make([]openflow.Flow, 0, len(pieces)+1),
		flow(tableLast, lastElse, openflow.IP().Reg(regFirewall, f.Number), openflow.Output(PortGateway)))
	for _, p := range pieces {
		match := p.ports.match().Reg(regFirewall, f.Number)
		if p.to.Bits() > 0 {
			match = match.IPDst(p.to)
		}
		var actions []openflow.Action
		if p.allow {
			actions = []openflow.Action{openflow.Output(PortGateway)}
		}
		fragment.Flows = append(fragment.Flows, flow(tableLast, uint16(lastRules+p.depth), match, actions...)) //nolint:gosec // below MaxFirewallDepth
	}
	return fragment
}

// judged says whose firewall judges a pod of this node. The lookup that it takes tells
// answers to connections from outside, which pass, and the kernel module puts fragments
// together in it, so that all have ports. In userspace it notes the connection as well: one that a rule drops then
// is known to have begun here, which lets nothing pass.
func judged(n Node, pod netip.Prefix, firewall uint32) []openflow.Flow {
	switch firewall {
	case NoFirewall:
		return nil
	case UnknownFirewall:
		return []openflow.Flow{flow(tableLast, lastUnknown, openflow.IP().IPSrc(pod))}
	}
	return []openflow.Flow{flow(tableLast, lastWhose, openflow.IP().Reg(regFirewall, NoFirewall).IPSrc(pod),
		openflow.LoadReg(regFirewall, firewall), lookAgain(n, tableLast))}
}

// lookAgain finds out which direction a packet that leaves has, and goes through the table
// once more. In userspace it notes the direction, if nobody has.
func lookAgain(n Node, table uint8) openflow.Action {
	lookup := openflow.Conntrack{Table: &table}
	if n.Userspace {
		lookup.Zone, lookup.Commit = ZoneEgress, true
	}
	return openflow.CT(lookup)
}

// lastBase is what table 101 has without firewalls.
func lastBase(n Node) []openflow.Flow {
	answer := openflow.CTTracked | openflow.CTReply
	flows := []openflow.Flow{
		flow(tableLast, lastAnswer, openflow.IP().CTState(answer, answer), openflow.Output(PortGateway)),
		// A firewall whose rules are not in the switch, whatever the reason, is closed.
		flow(tableLast, lastMissing, openflow.Any().RegMasked(regFirewall, FirstFirewall, FirstFirewall)),
		flow(tableLast, 0, openflow.Any(), openflow.Output(PortGateway)),
	}
	if n.Userspace {
		return append(flows, noteBase()...)
	}
	fragment := openflow.IP().CTState(0, openflow.CTTracked).InPort(PortTunnel)
	return append(flows,
		flow(tableLast, lastFragment, fragment.FirstFragment(), lookAgain(n, tableLast)),
		flow(tableLast, lastFragment, fragment.LaterFragment(), lookAgain(n, tableLast)))
}

// noteBase notes in userspace, where nobody else does, which side has begun a connection;
// what has been looked up has been noted then. The kernel module sees what the node notes in zone
// 0. A fragment would wait for the others, and those with ports can go another way: to a
// node port. It is not noted.
func noteBase() []openflow.Flow {
	free := openflow.IP().CTState(0, openflow.CTTracked).Reg(regFirewall, NoFirewall)
	return []openflow.Flow{
		flow(tableLast, lastElse, free.FirstFragment(), openflow.Output(PortGateway)),
		flow(tableLast, lastElse, free.LaterFragment(), openflow.Output(PortGateway)),
		flow(tableLast, lastMissing, free, noteDirection(), openflow.Output(PortGateway)),
	}
}

// noteDirection remembers who has begun a connection over tun0.
func noteDirection() openflow.Action {
	return openflow.CT(openflow.Conntrack{Commit: true, Zone: ZoneEgress})
}
