package pipeline

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// Protocol is a transport protocol of a service, as Kubernetes spells it.
type Protocol string

// The protocols that services can have.
const (
	TCP  Protocol = "TCP"
	UDP  Protocol = "UDP"
	SCTP Protocol = "SCTP"
)

// ServicePort is a port at which a service is asked.
type ServicePort struct {
	Protocol Protocol
	// Port is 1 to 65535.
	Port uint16
}

// UnknownVNID is for a service whose namespace's VNID is not known. Nobody has it.
const UnknownVNID uint32 = MaxVNID + 1

// Service is what a tenant must be told apart by when it asks for a service.
type Service struct {
	// Namespace and Name are the service's.
	Namespace, Name string
	// VNID is its namespace's, 0 to 16777215. Any other counts as UnknownVNID.
	VNID uint32
	// ClusterIPs are its addresses inside of the cluster, each of no other service.
	// Those outside of the service networks never come here and have no flows.
	ClusterIPs []netip.Addr
	// Ports are where it listens on them. One that is there twice counts once.
	Ports []ServicePort
	// NodePorts are where it listens on every node, each of no other service.
	NodePorts []ServicePort
}

// ServiceFragment lets tenants ask for a service of theirs, or of VNID 0: at its cluster
// IPs (table 60), and at node ports (61). There is none where there are no tenants:
// everybody may ask for all. A service of UnknownVNID is closed for tenants: it has
// no flows in table 60, and those in table 61 lead nobody but VNID 0 on. A port that
// does not exist has no flows.
func ServiceFragment(n Node, s Service) Fragment {
	f := Fragment{Owner: "service " + s.Namespace + "/" + s.Name}
	if !n.Mode.Tenants() {
		return f
	}
	f.Flows = append(f.Flows, clusterIPs(n, s)...)
	s.VNID = min(s.VNID, UnknownVNID)
	for _, port := range existing(s.NodePorts) {
		f.Flows = append(f.Flows, ask(tableNodePort, port.match().DstPort(port.Port), s.VNID))
	}
	return f
}

// clusterIPs is the part of table 60 that a service has.
func clusterIPs(n Node, s Service) []openflow.Flow {
	ports := existing(s.Ports)
	if len(ports) == 0 || s.VNID > MaxVNID {
		return nil
	}
	var flows []openflow.Flow
	for _, ip := range slices.Compact(slices.SortedFunc(slices.Values(s.ClusterIPs), netip.Addr.Compare)) {
		if !contains(n.ServiceNetworks, ip) {
			continue
		}
		for _, port := range ports {
			flows = append(flows, ask(tableService, port.match().IPDst(host(ip)).DstPort(port.Port), s.VNID))
		}
		// They have no port. Without their first one, which has, they come to nothing.
		flows = append(flows, ask(tableService, openflow.IP().IPDst(host(ip)).LaterFragment(), s.VNID))
	}
	return flows
}

// existing are the ports that can be, sorted, each once.
func existing(ports []ServicePort) []ServicePort {
	all := slices.DeleteFunc(slices.Clone(ports), func(p ServicePort) bool { return !p.exists() })
	slices.SortFunc(all, ServicePort.compare)
	return slices.Compact(all)
}

// ask leads a packet to the kernel if the VNIDs let its sender reach the service: the
// same check as for a pod, with tun0 in the place of the pod's port.
func ask(table uint8, match openflow.Match, vnid uint32) openflow.Flow {
	return flow(table, 100, match,
		openflow.LoadReg(regDest, vnid), openflow.LoadReg(regPort, PortGateway), openflow.Goto(tableAdmission))
}

// serviceBase is what table 60 has without services. VNID 0 may ask for every one, and
// everybody where only policies decide: they do when the kernel has picked a backend.
func serviceBase(n Node) []openflow.Flow {
	all := openflow.Any().Reg(regSource, 0)
	if n.Mode == NetworkPolicy {
		all = openflow.Any()
	}
	return []openflow.Flow{
		flow(tableService, 200, all, openflow.Output(PortGateway)),
		flow(tableService, 0, openflow.Any()),
	}
}

func contains(networks []netip.Prefix, ip netip.Addr) bool {
	return slices.ContainsFunc(networks, func(n netip.Prefix) bool { return n.Contains(ip) })
}

// exists is false for a port that no service can have.
func (p ServicePort) exists() bool {
	return p.Port != 0 && (p.Protocol == TCP || p.Protocol == UDP || p.Protocol == SCTP)
}

// match is every packet of the port's protocol.
func (p ServicePort) match() openflow.Match {
	switch p.Protocol {
	case UDP:
		return openflow.UDP()
	case SCTP:
		return openflow.SCTP()
	}
	return openflow.TCP()
}

func (p ServicePort) compare(other ServicePort) int {
	return cmp.Or(cmp.Compare(p.Protocol, other.Protocol), cmp.Compare(p.Port, other.Port))
}
