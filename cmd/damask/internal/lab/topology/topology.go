// Package topology reads what a lab shall look like.
//
// It owns the topology file: its fields, their defaults and what makes one wrong.
// It promises that a Topology that it returns can be built: names are unique,
// addresses are where they must be, and nothing overlaps. It must not build
// anything, and it does no I/O but reading the file.
package topology

import (
	"fmt"
	"net/netip"
	"os"

	"github.com/damask-sdn/damask/cmd/damask/internal/firewallfile"
	"github.com/damask-sdn/damask/cmd/damask/internal/policyfile"
	"github.com/damask-sdn/damask/cmd/damask/internal/servicefile"
	"github.com/damask-sdn/damask/internal/configfile"
)

// Topology is a cluster to build.
type Topology struct {
	// Mode is the isolation mode: "multitenant" (default), "subnet", "networkpolicy"
	// or "combined".
	Mode string `yaml:"mode"`
	// ClusterNetworks are the ranges of pod addresses. Default: 10.128.0.0/14 with
	// 9 host bits a node.
	ClusterNetworks []ClusterNetwork `yaml:"clusterNetworks"`
	// ServiceNetwork is the range of service addresses. Default: 172.30.0.0/16.
	ServiceNetwork netip.Prefix `yaml:"serviceNetwork"`
	// Underlay is the network that the nodes' own addresses are of. Default:
	// 192.168.108.0/24.
	Underlay netip.Prefix `yaml:"underlay"`
	// Tunnel is the encapsulation between nodes. Default: VXLAN on its usual port.
	Tunnel Tunnel `yaml:"tunnel"`
	// Datapath is that of every node: "netdev" (default), "system", or "auto": system
	// where the kernel has the module.
	Datapath string `yaml:"datapath"`
	// MTU of pods in bytes; 0: that of the underlay, 1500, less the tunnel's overhead.
	MTU int `yaml:"mtu"`
	// Nodes are registered in this order. At least one.
	Nodes []Node `yaml:"nodes"`
	// Replicas says how many processes of a control service run. Default: one each.
	Replicas Replicas `yaml:"replicas"`
	// Namespaces get their NetNamespace before the first pod.
	Namespaces []Namespace `yaml:"namespaces"`
	// Pods are attached at the end.
	Pods []Pod `yaml:"pods"`
	// ServiceEngine is what programs services on the nodes: "iptables" (default) or
	// "nftables".
	ServiceEngine string `yaml:"serviceEngine"`
	// LoadBalancerIPs is the pool of load-balancer addresses, which hosts outside
	// send to the first node. Default: 198.51.100.0/24 (RFC 5737).
	LoadBalancerIPs netip.Prefix `yaml:"loadBalancerIPs"`
	// Document has services and endpointSlices. Endpoints of services with a
	// selector follow the pods.
	servicefile.Document `yaml:",inline"`
	// NetworkPolicies are policies as Kubernetes has them, of any kind, in force before
	// the first pod. What they may say, the tenancy service knows.
	NetworkPolicies []policyfile.Manifest `yaml:"networkPolicies"`
	// DNSServers are whom egress asks for the names in egressFirewalls, "IP:PORT". Default:
	// none, and names stay unresolved.
	DNSServers []netip.AddrPort `yaml:"dnsServers"`
	// PodDNSServers are whom pods ask, "IP:PORT": their answers tell which names there are
	// below a wildcard. Default: DNSServers.
	PodDNSServers []netip.AddrPort `yaml:"podDNSServers"`
	// Firewalls has egressFirewalls.
	Firewalls `yaml:",inline"`
	// Kubernetes is the API server whose objects the cluster is made of, in place of
	// those here. Default: nil, there is none.
	Kubernetes *Kubernetes `yaml:"kubernetes"`
	// Outside are hosts of the underlay that are not part of the cluster; the first
	// is the nodes' default gateway. Default: one of the name "outside", with the
	// first address of the underlay that is free.
	Outside []Outside `yaml:"outside"`

	// Control are the addresses of the control host: replica i of each service has
	// the i-th. They are not written in the file: they are the last of the underlay
	// that are free.
	Control []netip.Addr `yaml:"-"`
}

// Firewalls is the part of a file that firewallfile reads, by a name that does not
// clash with that of services.
type Firewalls = firewallfile.Document

// ClusterNetwork is a range of pod addresses.
type ClusterNetwork struct {
	// CIDR is the range.
	CIDR netip.Prefix `yaml:"cidr"`
	// HostSubnetLength is the number of host bits in a node's subnet.
	HostSubnetLength int `yaml:"hostSubnetLength"`
}

// Tunnel is the encapsulation between nodes.
type Tunnel struct {
	// Type is "vxlan" (default), "geneve" or "gre".
	Type string `yaml:"type"`
	// Port is the UDP port; 0: the type's usual one. GRE has none.
	Port int `yaml:"port"`
}

// Node is a machine of the cluster.
type Node struct {
	// Name is a DNS-1123 subdomain.
	Name string `yaml:"name"`
	// IP is the node's address on the underlay. Default: the next that is free,
	// from the eleventh on.
	IP netip.Addr `yaml:"ip"`
	// Subnet is the HostSubnet that the node asks for; invalid: the next free one.
	Subnet netip.Prefix `yaml:"subnet"`
	// Zone is where the node is, for services that prefer what is close.
	Zone string `yaml:"zone"`
	// ServiceEngine is this node's; empty: the topology's.
	ServiceEngine string `yaml:"serviceEngine"`
	// WithoutAgent leaves the node without its agent until somebody starts it: it has its
	// HostSubnet, and whatever else programs it.
	WithoutAgent bool `yaml:"withoutAgent"`
	// EgressIPs are addresses of the underlay that this node hosts, of those that
	// namespaces want. Several nodes may name one: one hosts it, the others stand by.
	EgressIPs []netip.Addr `yaml:"egressIPs"`
	// EgressCIDRs are ranges from which addresses that no node names are placed here.
	EgressCIDRs []netip.Prefix `yaml:"egressCIDRs"`
	// EgressCapacity is how many addresses the node hosts at most; nil: as many as
	// there are.
	EgressCapacity *uint32 `yaml:"egressCapacity"`
	// Kubeconfig is the path of a file that says as whom the node's agent speaks to the API
	// server of Kubernetes. Empty: it does not.
	Kubeconfig string `yaml:"kubeconfig"`
}

// Replicas counts processes of each control service, 1 to 9.
type Replicas struct {
	// NATS servers form a cluster when there are more than one. 1, 3 or 5.
	NATS int `yaml:"nats"`
	// IPAM counts damask-ipam.
	IPAM int `yaml:"ipam"`
	// Tenancy counts damask-tenancy.
	Tenancy int `yaml:"tenancy"`
	// ServiceLB counts damask-servicelb.
	ServiceLB int `yaml:"servicelb"`
	// Egress counts damask-egress.
	Egress int `yaml:"egress"`
}

// Namespace is a tenant.
type Namespace struct {
	// Name is a DNS-1123 label.
	Name string `yaml:"name"`
	// VNID is the wished one; nil: any.
	VNID *uint32 `yaml:"vnid"`
	// Labels of the namespace.
	Labels map[string]string `yaml:"labels"`
	// Multicast lets its pods send and receive multicast. Default: false.
	Multicast bool `yaml:"multicast"`
	// EgressRouters are networks of the underlay whose addresses its pods may have as
	// egress routers. Default: none.
	EgressRouters []netip.Prefix `yaml:"egressRouters"`
	// EgressIPs are the addresses of the underlay by which its pods leave the
	// cluster. None: they leave as their nodes do.
	EgressIPs []netip.Addr `yaml:"egressIPs"`
	// PodEgress are some of its pods, which leave by other addresses. The first that
	// a pod matches counts.
	PodEgress []PodEgress `yaml:"podEgress"`
}

// PodEgress is some pods of a namespace and the addresses by which they leave.
type PodEgress struct {
	// Name is a DNS-1123 label, unique in the namespace, and not "default".
	Name string `yaml:"name"`
	// PodSelector is the labels that a pod must have. At least one.
	PodSelector map[string]string `yaml:"podSelector"`
	// EgressIPs are the addresses. At least one.
	EgressIPs []netip.Addr `yaml:"egressIPs"`
}

// Pod is a pod that the lab starts with.
type Pod struct {
	// Namespace is the pod's; it need not be among the topology's.
	Namespace string `yaml:"namespace"`
	// Name is the pod's name.
	Name string `yaml:"name"`
	// Node is where it runs.
	Node string `yaml:"node"`
	// IP is the wished address; invalid: any.
	IP netip.Addr `yaml:"ip"`
	// OFPort is the wished OpenFlow port, 3 to 65279; 0: any.
	OFPort uint32 `yaml:"ofport"`
	// Labels of the pod.
	Labels map[string]string `yaml:"labels"`
	// Annotations of the pod, as containerd and CRI-O pass them on.
	Annotations map[string]string `yaml:"annotations"`
	// Ports are what the pod's containers declare: services can name their target
	// port by them. They open nothing and close nothing, but for host ports.
	Ports []ContainerPort `yaml:"ports"`
}

// ContainerPort is a port of a pod, in the words of Kubernetes.
type ContainerPort struct {
	// Name is by what services mean the port; may be empty.
	Name string `yaml:"name"`
	// ContainerPort is 1 to 65535. Required.
	ContainerPort uint32 `yaml:"containerPort"`
	// Protocol is TCP (default), UDP or SCTP.
	Protocol string `yaml:"protocol"`
	// HostPort is the port of the pod's node that leads to this one; 0: none.
	HostPort uint32 `yaml:"hostPort"`
	// HostIP is the node's address that HostPort is on; invalid: all of them.
	HostIP netip.Addr `yaml:"hostIP"`
}

// Outside is a host that is not part of the cluster.
type Outside struct {
	// Name is a DNS-1123 label.
	Name string `yaml:"name"`
	// IP is its address on the underlay.
	IP netip.Addr `yaml:"ip"`
}

// Load reads the file at path. Its error names every problem with its line.
func Load(path string) (*Topology, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read topology: %w", err)
	}
	return Parse(path, data)
}

// Parse is Load for content that is already in memory.
func Parse(name string, data []byte) (*Topology, error) {
	t := defaults()
	err := configfile.Parse(name, data, t, t.check)
	if err != nil {
		return nil, err
	}
	return t, nil
}

// maxPlain bounds Plain, whose underlay is a /24.
const maxPlain = 200

// Plain is the text of a topology with n nodes, node1 to nodeN, and defaults for
// the rest.
func Plain(n int) ([]byte, error) {
	if n < 1 || n > maxPlain {
		return nil, fmt.Errorf("--nodes %d: from 1 to %d; for more write a topology with a larger underlay", n, maxPlain)
	}
	text := []byte("nodes:\n")
	for i := range n {
		text = fmt.Appendf(text, "- {name: node%d}\n", i+1)
	}
	return text, nil
}
