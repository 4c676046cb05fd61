package topology

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/cmd/damask/internal/lab/datapath"
	"github.com/damask-sdn/damask/cmd/damask/internal/syntax"
	"github.com/damask-sdn/damask/internal/configfile"
)

// checker goes through a topology and remembers who has what.
type checker struct {
	*configfile.Report
	t         *Topology
	addresses map[netip.Addr]string
}

func (t *Topology) check(report *configfile.Report) {
	c := &checker{Report: report, t: t, addresses: map[netip.Addr]string{}}
	if !slices.Contains([]string{"multitenant", "subnet", "networkpolicy", "combined"}, t.Mode) {
		c.Addf("mode", "%q is none of multitenant, subnet, networkpolicy, combined", t.Mode)
	}
	if !datapath.Valid(t.Datapath) {
		c.Addf("datapath", "%q is none of system, netdev, auto", t.Datapath)
	}
	c.networks()
	c.tunnel()
	c.replicas()
	c.nodes()
	c.outside()
	c.namespaces()
	c.pods()
	c.services()
	c.egress()
	c.policies()
	c.firewalls()
	c.kubernetes()
	if t.Underlay.Addr().Is4() && t.Underlay.Bits() <= 30 && !t.setAddresses() {
		c.Addf("underlay", "%s is too small for the nodes, the hosts outside and the control host", t.Underlay)
	}
}

// prefix checks one IPv4 network.
func (c *checker) prefix(path string, p netip.Prefix, maxBits int) bool {
	switch {
	case !p.IsValid():
		c.Addf(path, "required")
	case !p.Addr().Is4():
		c.Addf(path, "%s is not IPv4; this version knows IPv4 only", p)
	case p != p.Masked():
		c.Addf(path, "%s has host bits set; did you mean %s?", p, p.Masked())
	case p.Bits() > maxBits || p.Bits() < 8:
		c.Addf(path, "/%d: the prefix length must be from 8 to %d", p.Bits(), maxBits)
	default:
		return true
	}
	return false
}

func (c *checker) networks() {
	type named struct {
		path   string
		prefix netip.Prefix
	}
	var good []named
	add := func(path string, p netip.Prefix, maxBits int) {
		if !c.prefix(path, p, maxBits) {
			return
		}
		for _, other := range good {
			if other.prefix.Overlaps(p) {
				c.Addf(path, "%s overlaps %s of %s", p, other.prefix, other.path)
				return
			}
		}
		good = append(good, named{path, p})
	}
	if c.t.Kubernetes == nil {
		c.clusterNetworks(add)
	}
	add("underlay", c.t.Underlay, 29)
	add("loadBalancerIPs", c.t.LoadBalancerIPs, 32)
}

// clusterNetworks checks those that an API server's ClusterNetwork would have.
func (c *checker) clusterNetworks(add func(path string, p netip.Prefix, maxBits int)) {
	if len(c.t.ClusterNetworks) == 0 {
		c.Addf("clusterNetworks", "at least one is needed")
	}
	for i, network := range c.t.ClusterNetworks {
		path := fmt.Sprintf("clusterNetworks[%d]", i)
		add(path+".cidr", network.CIDR, 30)
		if n := network.HostSubnetLength; n < 2 || n > 30 {
			c.Addf(path+".hostSubnetLength", "%d: a node's subnet has from 2 to 30 host bits", n)
		} else if network.CIDR.IsValid() && n > 32-network.CIDR.Bits() {
			c.Addf(path+".hostSubnetLength", "%d host bits do not fit into %s", n, network.CIDR)
		}
	}
	add("serviceNetwork", c.t.ServiceNetwork, 30)
}

func (c *checker) tunnel() {
	switch c.t.Tunnel.Type {
	case "vxlan", "geneve":
	case "gre":
		if c.t.Tunnel.Port != 0 {
			c.Addf("tunnel.port", "GRE has no ports")
		}
	default:
		c.Addf("tunnel.type", "%q is not one of vxlan, geneve, gre", c.t.Tunnel.Type)
	}
	if p := c.t.Tunnel.Port; p < 0 || p > 65535 {
		c.Addf("tunnel.port", "%d is not a UDP port", p)
	}
	if m := c.t.MTU; m != 0 && (m < 576 || m > 1500) {
		c.Addf("mtu", "%d: from 576 to 1500, which is the underlay's", m)
	}
}

func (c *checker) replicas() {
	if n := c.t.Replicas.NATS; n != 1 && n != 3 && n != 5 {
		c.Addf("replicas.nats", "%d: a NATS cluster has 1, 3 or 5 servers", n)
	}
	for path, n := range map[string]int{
		"replicas.ipam": c.t.Replicas.IPAM, "replicas.tenancy": c.t.Replicas.Tenancy, "replicas.servicelb": c.t.Replicas.ServiceLB,
		"replicas.egress": c.t.Replicas.Egress,
	} {
		if n < 1 || n > 9 {
			c.Addf(path, "%d: from 1 to 9", n)
		}
	}
}

// host checks an address of the underlay and that nobody else has it.
func (c *checker) host(path string, addr netip.Addr, owner string) {
	network := c.t.Underlay
	switch {
	case !network.Addr().Is4() || network.Bits() > 30:
		return // the underlay itself is reported
	case !network.Contains(addr):
		c.Addf(path, "%s is not an address of the underlay %s", addr, network)
		return
	}
	first, last := hostRange(network)
	if addr.Less(first) || last.Less(addr) {
		c.Addf(path, "%s is the network or the broadcast address of %s", addr, network)
	} else if other, taken := c.addresses[addr]; taken {
		c.Addf(path, "%s belongs to %s already", addr, other)
	} else {
		c.addresses[addr] = owner
	}
}

func (c *checker) nodes() {
	if len(c.t.Nodes) == 0 {
		c.Addf("nodes", "at least one is needed")
	}
	names := map[string]bool{}
	subnets := map[netip.Prefix]string{}
	for i, node := range c.t.Nodes {
		path := fmt.Sprintf("nodes[%d]", i)
		c.name(path+".name", node.Name, syntax.Subdomain, names)
		// `kill` and `start` take the name of a node or of a service.
		if slices.Contains([]string{"ipam", "tenancy", "servicelb", "egress", "nats"}, node.Name) {
			c.Addf(path+".name", "%q is the name of a control service", node.Name)
		}
		if reason := syntax.CheckLabel("zone", node.Zone); reason != "" {
			c.Addf(path+".zone", "%s", reason)
		}
		c.engine(path+".serviceEngine", node.ServiceEngine)
		if node.IP.IsValid() {
			c.host(path+".ip", node.IP, "node "+node.Name)
		}
		if node.Subnet == (netip.Prefix{}) {
			continue
		}
		if other, taken := subnets[node.Subnet]; taken {
			c.Addf(path+".subnet", "%s belongs to node %s already", node.Subnet, other)
		} else if !c.isHostSubnet(node.Subnet) {
			c.Addf(path+".subnet", "%s is not a node's subnet of any of clusterNetworks", node.Subnet)
		}
		subnets[node.Subnet] = node.Name
	}
}

// isHostSubnet tells whether ipam could give the subnet to a node.
func (c *checker) isHostSubnet(subnet netip.Prefix) bool {
	for _, network := range c.t.ClusterNetworks {
		if network.CIDR.IsValid() && network.CIDR.Contains(subnet.Addr()) &&
			subnet.Bits() == 32-network.HostSubnetLength && subnet == subnet.Masked() {
			return true
		}
	}
	return false
}

func (c *checker) outside() {
	names := map[string]bool{}
	for i, host := range c.t.Outside {
		path := fmt.Sprintf("outside[%d]", i)
		c.name(path+".name", host.Name, syntax.Label, names)
		if !host.IP.IsValid() {
			c.Addf(path+".ip", "required")
			continue
		}
		c.host(path+".ip", host.IP, "outside host "+host.Name)
	}
}

func (c *checker) namespaces() {
	names := map[string]bool{}
	vnids := map[uint32]string{}
	for i, namespace := range c.t.Namespaces {
		path := fmt.Sprintf("namespaces[%d]", i)
		c.name(path+".name", namespace.Name, syntax.Label, names)
		c.labels(path+".labels", namespace.Labels)
		if namespace.Multicast && c.t.Mode == "subnet" {
			c.Addf(path+".multicast", "there is no multicast in subnet mode, which has no tenants to keep it from")
		}
		for j, network := range namespace.EgressRouters {
			field := fmt.Sprintf("%s.egressRouters[%d]", path, j)
			if c.prefix(field, network, 32) && !network.Overlaps(c.t.Underlay) {
				c.Addf(field, "%s has no address of the underlay %s", network, c.t.Underlay)
			}
		}
		if namespace.VNID == nil {
			continue
		}
		vnid := *namespace.VNID
		switch other, taken := vnids[vnid]; {
		case vnid >= 2 && vnid <= 9 || vnid > maxVNID:
			c.Addf(path+".vnid", "%d: 0, 1, or from 10 to %d", vnid, maxVNID)
		case namespace.Name == "default" && vnid != 0:
			c.Addf(path+".vnid", "%d: namespace default is global, its VNID is 0", vnid)
		case taken && vnid > 1:
			c.Addf(path+".vnid", "%d belongs to namespace %s already; join them when the lab is up", vnid, other)
		}
		vnids[vnid] = namespace.Name
	}
}

// maxVNID is the largest that fits into VXLAN's 24 bits.
const maxVNID = 1<<24 - 1

func (c *checker) pods() {
	nodes := map[string]*Node{}
	for i := range c.t.Nodes {
		nodes[c.t.Nodes[i].Name] = &c.t.Nodes[i]
	}
	names, ips, ports := map[string]bool{}, map[netip.Addr]string{}, map[string]string{}
	hostPorts := map[hostPort]string{}
	for i, pod := range c.t.Pods {
		path := fmt.Sprintf("pods[%d]", i)
		full := pod.Namespace + "/" + pod.Name
		c.name(path+".namespace", pod.Namespace, syntax.Label, nil)
		c.name(path+".name", pod.Name, syntax.Subdomain, nil)
		c.labels(path+".labels", pod.Labels)
		c.containerPorts(path+".ports", pod.Ports)
		if names[full] {
			c.Addf(path+".name", "there are two pods %s", full)
		}
		names[full] = true
		node, known := nodes[pod.Node]
		switch {
		case pod.Node == "":
			c.Addf(path+".node", "required")
		case !known:
			c.Addf(path+".node", "there is no node %q", pod.Node)
		case node.WithoutAgent:
			c.Addf(path+".node", "node %s begins without an agent; add the pod when somebody attaches pods there", pod.Node)
		}
		if pod.IP.IsValid() {
			c.podIP(path+".ip", pod, node, ips)
			ips[pod.IP] = full
		}
		c.podPort(path+".ofport", pod, ports)
		c.hostPorts(path+".ports", pod, hostPorts)
	}
}

func (c *checker) podIP(path string, pod Pod, node *Node, ips map[netip.Addr]string) {
	if other, taken := ips[pod.IP]; taken {
		c.Addf(path, "%s belongs to pod %s already", pod.IP, other)
		return
	}
	if node != nil && node.Subnet.IsValid() {
		if !node.Subnet.Contains(pod.IP) {
			c.Addf(path, "%s is not an address of node %s, whose subnet is %s", pod.IP, node.Name, node.Subnet)
		}
		return
	}
	for _, network := range c.t.ClusterNetworks {
		if network.CIDR.IsValid() && network.CIDR.Contains(pod.IP) {
			return
		}
	}
	c.Addf(path, "%s is not an address of any of clusterNetworks", pod.IP)
}

// Ports 1 and 2 are the tunnel and the gateway; OpenFlow reserves those from
// 0xff00.
const (
	minOFPort = 3
	maxOFPort = 0xfeff
)

func (c *checker) podPort(path string, pod Pod, ports map[string]string) {
	if pod.OFPort == 0 {
		return
	}
	if pod.OFPort < minOFPort || pod.OFPort > maxOFPort {
		c.Addf(path, "%d: from %d to %d", pod.OFPort, minOFPort, maxOFPort)
	}
	key := fmt.Sprintf("%s %d", pod.Node, pod.OFPort)
	if other, taken := ports[key]; taken {
		c.Addf(path, "port %d of node %s belongs to pod %s already", pod.OFPort, pod.Node, other)
	}
	ports[key] = pod.Namespace + "/" + pod.Name
}
