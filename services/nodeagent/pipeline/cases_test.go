package pipeline_test

import (
	"net/netip"

	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// A nodeCase is a whole node, as the golden files and the switch see it.
type nodeCase struct {
	name    string
	node    pipeline.Node
	pods    []pipeline.Pod
	remotes []pipeline.Remote
	vnids   []uint32
	// services are of every node that keeps tenants apart.
	services []pipeline.Service
}

// fragments compiles all of the case.
func (c nodeCase) fragments() []pipeline.Fragment {
	all := []pipeline.Fragment{pipeline.Base(c.node)}
	for _, pod := range c.pods {
		all = append(all, pipeline.PodFragment(c.node, pod))
	}
	for _, remote := range c.remotes {
		all = append(all, pipeline.RemoteFragment(c.node, remote))
	}
	for _, vnid := range c.vnids {
		all = append(all, pipeline.TenantFragment(c.node, vnid))
	}
	for _, service := range c.services {
		all = append(all, pipeline.ServiceFragment(c.node, service))
	}
	return all
}

func nodeCases() []nodeCase {
	node := pipeline.Node{
		ClusterNetworks: prefixes("10.128.0.0/14"),
		ServiceNetworks: prefixes("172.30.0.0/16"),
		Subnet:          netip.MustParsePrefix("10.130.0.0/23"),
		Gateway:         netip.MustParseAddr("10.130.0.1"),
		HostIP:          netip.MustParseAddr("192.168.108.112"),
		TunnelPort:      4789,
		Mode:            pipeline.Subnet,
	}
	multitenant := node
	multitenant.Mode = pipeline.Multitenant
	twoNetworks := multitenant
	twoNetworks.ClusterNetworks = prefixes("10.128.0.0/14", "10.64.0.0/16")
	twoNetworks.ServiceNetworks = prefixes("172.30.0.0/16", "172.31.0.0/16")
	geneve := multitenant
	geneve.TunnelPort = 6081
	gre := multitenant
	gre.TunnelPort = 0
	userspace, flat := multitenant, node
	userspace.Userspace, flat.Userspace = true, true

	pods := []pipeline.Pod{
		{Namespace: "shop", Name: "web", IP: netip.MustParseAddr("10.130.0.5"), Port: 3, VNID: 0x82f8b2},
		{Namespace: "shop", Name: "db", IP: netip.MustParseAddr("10.130.0.6"), Port: 4, VNID: 0x82f8b2},
		{Namespace: "bank", Name: "web", IP: netip.MustParseAddr("10.130.0.7"), Port: 5, VNID: 272037},
		{Namespace: "default", Name: "router", IP: netip.MustParseAddr("10.130.0.8"), Port: 6, VNID: 0},
	}
	remotes := []pipeline.Remote{
		{Name: "node1", HostIP: netip.MustParseAddr("192.168.108.111"), Subnets: prefixes("10.131.0.0/23")},
		{Name: "infra.ocp.cn", HostIP: netip.MustParseAddr("192.168.108.113"), Subnets: prefixes("10.129.0.0/23")},
	}
	twoSubnets := append(remotes[:2:2], pipeline.Remote{
		Name: "node3", HostIP: netip.MustParseAddr("192.168.108.114"), Subnets: prefixes("10.128.0.0/23", "10.64.0.0/23"),
	})
	vnids := []uint32{0, 0x82f8b2, 272037}
	services := []pipeline.Service{
		{Namespace: "default", Name: "kubernetes", VNID: 0, ClusterIPs: addresses("172.30.0.1"),
			Ports: []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: 443}}},
		{Namespace: "shop", Name: "web", VNID: 0x82f8b2, ClusterIPs: addresses("172.30.1.1"),
			Ports: []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: 80}, {Protocol: pipeline.SCTP, Port: 80}}},
		{Namespace: "bank", Name: "dns", VNID: 272037, ClusterIPs: addresses("172.30.1.2"),
			Ports: []pipeline.ServicePort{{Protocol: pipeline.UDP, Port: 53}, {Protocol: pipeline.TCP, Port: 53}}},
	}
	return []nodeCase{
		{"subnet", node, pods, remotes, vnids, services},
		{"multitenant", multitenant, pods, remotes, vnids, services},
		{"subnet-netdev", flat, pods, remotes, vnids, services},
		{"multitenant-netdev", userspace, pods, remotes, vnids, services},
		{"two-cluster-networks", twoNetworks, pods, twoSubnets, vnids, services},
		{"geneve", geneve, pods[:1], remotes[:1], vnids[:2], nil},
		{"gre", gre, pods[:1], remotes[:1], vnids[:2], nil},
	}
}

func prefixes(texts ...string) []netip.Prefix {
	var all []netip.Prefix
	for _, text := range texts {
		all = append(all, netip.MustParsePrefix(text))
	}
	return all
}

func addresses(texts ...string) []netip.Addr {
	var all []netip.Addr
	for _, text := range texts {
		all = append(all, netip.MustParseAddr(text))
	}
	return all
}
