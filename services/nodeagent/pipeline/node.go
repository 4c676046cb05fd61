package pipeline

import (
	"net"
	"net/netip"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// OpenFlow port numbers of br0. Pods have FirstPodPort and up.
const (
	PortTunnel   uint32 = 1 // vxlan0, whatever the encapsulation.
	PortGateway  uint32 = 2 // tun0, the node's own leg.
	FirstPodPort uint32 = 3
)

// Tables of br0. The numbers are a contract: operators and their scripts know them.
const (
	tableIngress        = 0   // Where did it come in?
	tableTunnel         = 10  // Is the sender one of our nodes?
	tableArrive         = 11  // Policies: what came through the tunnel for a pod of this node is looked up.
	tablePod            = 20  // Is the source address this port's own?
	tablePassage        = 21  // Policies: what a pod sends is looked up.
	tableKnown          = 22  // Policies: which connection is it of?
	tableReturn         = 25  // A pod's packet to a service, back from the kernel.
	tableSent           = 27  // Policies let the pod send it.
	tableUnsent         = 28  // Policies do not.
	tableRoute          = 30  // Where does it go?
	tableARPLocal       = 40  // ARP for pods of this node.
	tableARPRemote      = 50  // ARP for pods of other nodes.
	tableService        = 60  // Service addresses.
	tableNodePort       = 61  // Node ports of other nodes, and this node's for their pods.
	tableLocal          = 70  // IP to pods of this node.
	tableAdmission      = 80  // May the source's VNID reach the destination's?
	tableEnter          = 81  // Policies: what needs no judgement enters.
	tableEntered        = 85  // Policies let it in.
	tableKeptOut        = 86  // Policies do not.
	tableRemote         = 90  // IP to pods of other nodes.
	tableLeave          = 100 // Leaving the cluster: egress IPs.
	tableLast           = 101 // Leaving the cluster: egress firewalls, and out by tun0.
	tableMulticastSend  = 110 // May the pod send multicast?
	tableMulticastNodes = 111 // Multicast to the other nodes.
	tableMulticastLocal = 120 // Multicast to pods of this node.
	tableMarker         = 253 // Who set this bridge up.
)

// Registers. They are zero when a packet comes in.
const (
	regSource   = 0 // VNID of the source.
	regDest     = 1 // VNID of the destination.
	regPort     = 2 // Port of the destination.
	regPlace    = 3 // Which of several places a packet leaves at; for multicast, which part of the nodes.
	regKnown    = 4 // Policies: what is known of the connection, a Known.
	regFirewall = 5 // Whose firewall judges the packet.
)

// Mode is the isolation mode of the cluster.
type Mode uint8

const (
	// Subnet is one flat network: everybody reaches everybody, every VNID is 0.
	Subnet Mode = iota
	// Multitenant lets a pod reach pods of its own VNID, and VNID 0 reaches and is
	// reached by all.
	Multitenant
	// NetworkPolicy is a flat network in which policies decide. Packets carry VNIDs,
	// by which they leave the cluster, and nothing else is decided by them.
	NetworkPolicy
	// Combined lets pass what both Multitenant and NetworkPolicy do.
	Combined
)

// String is the mode's name as the configuration writes it.
func (m Mode) String() string {
	switch m {
	case Multitenant:
		return "multitenant"
	case NetworkPolicy:
		return "networkpolicy"
	case Combined:
		return "combined"
	}
	return "subnet"
}

// Tenants reports whether VNIDs keep pods apart.
func (m Mode) Tenants() bool { return m == Multitenant || m == Combined }

// Policies reports whether policies decide.
func (m Mode) Policies() bool { return m == NetworkPolicy || m == Combined }

// Node is what all fragments of one node have in common.
type Node struct {
	// ClusterNetworks are the networks of all pods of all nodes. They do not overlap.
	ClusterNetworks []netip.Prefix
	// ServiceNetworks are the networks of service addresses.
	ServiceNetworks []netip.Prefix
	// Subnet is the network of this node's pods, inside one of ClusterNetworks.
	Subnet netip.Prefix
	// Gateway is the address of tun0, the first of Subnet.
	Gateway netip.Addr
	// HostIP is the node's address in the underlay.
	HostIP netip.Addr
	// TunnelPort is the UDP port of the tunnel; 0 says that the tunnel is GRE.
	TunnelPort uint16
	// Mode is the isolation mode.
	Mode Mode
	// Userspace says that br0's datapath is netdev, whose connection tracking is not
	// the kernel's.
	Userspace bool
	// KeepConnections says that a connection which policies have let pass goes on when
	// they do so no more.
	KeepConnections bool
	// KeptMAC is the MAC address that tun0 had before Damask, if pods know it by that.
	KeptMAC net.HardwareAddr
	// Succeeds says that the node was OpenShift SDN's a short while ago: packets may be
	// under way, and connections known, that its flows have sent to connection tracking.
	Succeeds bool
}

// GatewayMAC is the MAC address of tun0, made from its address as a pod's is: 0a:58
// and the four bytes. Flows name it, so it must not change when the switch restarts.
// A node that was taken over keeps what it had.
func (n Node) GatewayMAC() net.HardwareAddr {
	if n.KeptMAC != nil {
		return n.KeptMAC
	}
	return append(net.HardwareAddr{0x0a, 0x58}, n.Gateway.AsSlice()...)
}

// vnid is the VNID as the registers carry it: always 0 without tenants.
func (n Node) vnid(of uint32) uint32 {
	if n.Mode == Subnet {
		return 0
	}
	return of
}

// Fragment is the flows of one object. An object's change concerns its fragment alone.
type Fragment struct {
	// Owner names the object in words: "base", "pod shop/web", "hostsubnet node2", "vnid 42",
	// "service shop/web", "egress vnid 42", "multicast vnid 42", "multicast part 7", "firewall shop".
	Owner string
	// Flows are the object's flows, without cookies; possibly none.
	Flows []openflow.Flow
}

// Base is the fragment that a node has whatever runs on it.
func Base(n Node) Fragment {
	f := Fragment{Owner: "base"}
	for _, part := range [][]openflow.Flow{
		ingress(n), tunnelBase(), arrive(n), podBase(n), passage(n), known(n), returnBase(), route(n),
		deliveryBase(), serviceBase(n), nodePortBase(n), admission(n), policed(n), leaveBase(n), lastBase(n), multicastBase(n), succession(n), marker(n),
	} {
		f.Flows = append(f.Flows, part...)
	}
	return f
}

// flow, with no actions, drops.
func flow(table uint8, priority uint16, match openflow.Match, actions ...openflow.Action) openflow.Flow {
	return openflow.Flow{Table: table, Priority: priority, Match: match, Actions: actions}
}

// host is the prefix of one address.
func host(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }
