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
	// egress is of every node that keeps tenants apart, too.
	egress []pipeline.Egress
	// multicast are VNIDs whose pods exchange it, parts the nodes that they send to.
	multicast []pipeline.Multicast
	parts     map[int][]netip.Addr
	// policies are what policies come down to, where they decide.
	policies []pipeline.Fragment
	// firewalls judge what leaves.
	firewalls []pipeline.Firewall
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
	for _, e := range c.egress {
		all = append(all, pipeline.EgressFragment(c.node, e))
	}
	for _, m := range c.multicast {
		all = append(all, pipeline.MulticastFragment(c.node, m))
	}
	for part, nodes := range c.parts {
		all = append(all, pipeline.MulticastPartFragment(c.node, part, nodes))
	}
	if len(c.policies) > 0 && len(c.pods) > 0 {
		all = append(all, pipeline.Fragment{Owner: "policy services of pod shop/web", Flows: pipeline.DeniedServices(c.node, c.pods[0].IP, []pipeline.DeniedService{
			{ClusterIP: netip.MustParseAddr("172.30.0.1"), Port: pipeline.ServicePort{Protocol: pipeline.TCP, Port: 443}},
			{ClusterIP: netip.MustParseAddr("172.30.0.1"), Port: pipeline.ServicePort{Protocol: pipeline.TCP, Port: 443}},
			{ClusterIP: netip.MustParseAddr("192.0.2.1"), Port: pipeline.ServicePort{Protocol: pipeline.TCP, Port: 443}},
		})})
	}
	if c.node.Userspace {
		all = append(all, pipeline.Fragment{Owner: pipeline.StampOwner, Flows: pipeline.Stamp(7)})
	}
	for _, f := range c.firewalls {
		all = append(all, pipeline.FirewallFragment(f))
	}
	return append(all, c.policies...)
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
	heir, heirUserspace := multitenant, flat
	heir.Succeeds, heirUserspace.Succeeds = true, true

	pods := []pipeline.Pod{
		{Namespace: "shop", Name: "web", IP: netip.MustParseAddr("10.130.0.5"), Port: 3, VNID: 0x82f8b2},
		{Namespace: "shop", Name: "db", IP: netip.MustParseAddr("10.130.0.6"), Port: 4, VNID: 0x82f8b2},
		{Namespace: "bank", Name: "web", IP: netip.MustParseAddr("10.130.0.7"), Port: 5, VNID: 272037},
		{Namespace: "default", Name: "router", IP: netip.MustParseAddr("10.130.0.8"), Port: 6, VNID: 0},
		{Namespace: "bank", Name: "new", IP: netip.MustParseAddr("10.130.0.9"), Port: 7, VNID: 272037, Inside: true},
		{Namespace: "remote", Name: "a", IP: netip.MustParseAddr("10.130.0.11"), Port: 8, VNID: 1001, ByEgressIP: true},
		{Namespace: "spread", Name: "a", IP: netip.MustParseAddr("10.130.0.12"), Port: 9, VNID: 1002},
		{Namespace: "nowhere", Name: "a", IP: netip.MustParseAddr("10.130.0.13"), Port: 10, VNID: 1003},
		{Namespace: "here", Name: "a", IP: netip.MustParseAddr("10.130.0.14"), Port: 11, VNID: 1004},
		{Namespace: "some", Name: "a", IP: netip.MustParseAddr("10.130.0.20"), Port: 12, VNID: 1005},
		{Namespace: "some", Name: "b", IP: netip.MustParseAddr("10.130.0.21"), Port: 13, VNID: 1005},
		{Namespace: "some", Name: "c", IP: netip.MustParseAddr("10.130.0.22"), Port: 14, VNID: 1005},
		{Namespace: "some", Name: "d", IP: netip.MustParseAddr("10.130.0.23"), Port: 15, VNID: 1005},
		{Namespace: "joined", Name: "e", IP: netip.MustParseAddr("10.130.0.24"), Port: 16, VNID: 1005},
		{Namespace: "joined", Name: "f", IP: netip.MustParseAddr("10.130.0.30"), Port: 17, VNID: 272037, Firewall: 0x80000001},
		{Namespace: "other", Name: "f", IP: netip.MustParseAddr("10.130.0.31"), Port: 18, VNID: 272037, Firewall: 0x80000002,
			Resolvers: []netip.AddrPort{netip.MustParseAddrPort("172.30.0.10:53"), netip.MustParseAddrPort("192.0.2.53:5353")}},
		{Namespace: "late", Name: "f", IP: netip.MustParseAddr("10.130.0.32"), Port: 19, VNID: 272037, Firewall: pipeline.UnknownFirewall},
		{Namespace: "away", Name: "f", IP: netip.MustParseAddr("10.130.0.33"), Port: 20, VNID: 1001, Firewall: 0x80000001},
		{Namespace: "beside", Name: "f", IP: netip.MustParseAddr("10.130.0.34"), Port: 21, VNID: 1004, Firewall: 0x80000001},
		{Namespace: "deep", Name: "f", IP: netip.MustParseAddr("10.130.0.35"), Port: 22, VNID: 272037, Firewall: 0x80000003},
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
			Ports:     []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: 443}},
			NodePorts: []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: 30443}}},
		{Namespace: "shop", Name: "web", VNID: 0x82f8b2, ClusterIPs: addresses("172.30.1.1"),
			Ports:     []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: 80}, {Protocol: pipeline.SCTP, Port: 80}},
			NodePorts: []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: 30080}, {Protocol: pipeline.SCTP, Port: 30080}}},
		{Namespace: "bank", Name: "dns", VNID: 272037, ClusterIPs: addresses("172.30.1.2"),
			Ports:     []pipeline.ServicePort{{Protocol: pipeline.UDP, Port: 53}, {Protocol: pipeline.TCP, Port: 53}},
			NodePorts: []pipeline.ServicePort{{Protocol: pipeline.UDP, Port: 30053}}},
		{Namespace: "new", Name: "web", VNID: pipeline.UnknownVNID, ClusterIPs: addresses("172.30.1.3"),
			Ports:     []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: 80}},
			NodePorts: []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: 30999}}},
	}
	// Both pods of shop, one of the two of bank, and the one of VNID 0.
	groups := []pipeline.Multicast{
		{VNID: 0x82f8b2, Pods: pods[:2]}, {VNID: 272037, Pods: pods[2:3]}, {VNID: 0, Pods: pods[3:4]},
	}
	parts := map[int][]netip.Addr{0: addresses("192.168.108.113", "192.168.108.114"), 31: addresses("192.168.108.111")}
	return []nodeCase{
		{"subnet", node, pods, remotes, vnids, services, egress(), groups, parts, nil, firewalls()},
		{"multitenant", multitenant, pods, remotes, vnids, services, egress(), groups, parts, nil, firewalls()},
		{"subnet-netdev", flat, pods, remotes, vnids, services, egress(), groups, parts, nil, firewalls()},
		{"multitenant-netdev", userspace, pods, remotes, vnids, services, egress(), groups, parts, nil, firewalls()},
		{"two-cluster-networks", twoNetworks, pods, twoSubnets, vnids, services, egress(), groups, parts, nil, firewalls()},
		{"geneve", geneve, pods[:1], remotes[:1], vnids[:2], nil, nil, groups[:1], nil, nil, nil},
		{"gre", gre, pods[:1], remotes[:1], vnids[:2], nil, nil, groups[:1], nil, nil, nil},
		{"networkpolicy", inMode(node, pipeline.NetworkPolicy), pods, remotes, vnids, services, egress(), groups, parts, policies(), firewalls()},
		{"networkpolicy-netdev", inMode(flat, pipeline.NetworkPolicy), pods, remotes, vnids, services, egress(), groups, parts, policies(), firewalls()},
		{"combined", inMode(node, pipeline.Combined), pods, remotes, vnids, services, egress(), groups, parts, policies(), firewalls()},
		{"combined-netdev", inMode(flat, pipeline.Combined), pods, remotes, vnids, services, egress(), groups, parts, policies(), firewalls()},
		{"networkpolicy-log", inMode(node, pipeline.NetworkPolicy), pods[:3], remotes[:1], vnids, nil, nil, nil, nil, loggedPolicies(), nil},
		{"succession", heir, pods[:2], remotes[:1], vnids[:2], nil, nil, groups[:1], nil, nil, nil},
		{"succession-policies", inMode(heir, pipeline.NetworkPolicy), pods[:3], remotes[:1], vnids, nil, nil, groups[:1], nil, policies(), nil},
		{"succession-policies-netdev", inMode(heirUserspace, pipeline.NetworkPolicy), pods[:3], remotes[:1], vnids, nil, nil, groups[:1], nil, policies(), nil},
		{"combined-keep", keeping(inMode(node, pipeline.Combined)), pods[:1], remotes[:1], vnids[:2], nil, nil, groups[:1], nil, nil, nil},
	}
}

// egress has a VNID for each way to leave.
func egress() []pipeline.Egress {
	infra := pipeline.EgressPlace{Node: netip.MustParseAddr("192.168.108.113")}
	node1 := pipeline.EgressPlace{Node: netip.MustParseAddr("192.168.108.111")}
	here, second := pipeline.EgressPlace{}, pipeline.EgressPlace{Slot: 1}
	pod := netip.MustParseAddr
	return []pipeline.Egress{
		{VNID: 1001, Whole: &pipeline.EgressWay{infra}},
		{VNID: 1002, Whole: &pipeline.EgressWay{infra, here, node1}, Hosted: []pipeline.EgressHosted{{}}},
		{VNID: 1003, Whole: &pipeline.EgressWay{}},
		{VNID: 1004, Whole: &pipeline.EgressWay{here}},
		{VNID: 1005, Pods: map[netip.Addr]pipeline.EgressWay{
			pod("10.130.0.20"): {infra}, pod("10.130.0.21"): {second, infra}, pod("10.130.0.22"): {second}, pod("10.130.0.23"): {},
		}, Hosted: []pipeline.EgressHosted{
			{Slot: 0, MatchPods: true, Pods: addresses("10.131.0.20", "10.131.0.21")},
			{Slot: 1, MatchPods: true, Pods: addresses("10.131.0.21", "10.131.0.22")},
			{Slot: 2, MatchPods: true, Pods: addresses("10.131.0.23"), Firewall: 0x80000001},
			{Slot: 3, MatchPods: true, Pods: addresses("10.131.0.24"), Firewall: pipeline.UnknownFirewall},
		}},
		{VNID: 1006, Hosted: []pipeline.EgressHosted{{Firewall: 0x80000001}}},
		{VNID: 1007, Hosted: []pipeline.EgressHosted{{Firewall: pipeline.UnknownFirewall}}},
	}
}

// firewalls are one that uses all that rules can say, and one that leaves a single port.
func firewalls() []pipeline.Firewall {
	ports := func(protocol pipeline.Protocol, first, last uint16) []pipeline.FirewallPorts {
		return []pipeline.FirewallPorts{{Protocol: protocol, First: first, Last: last}}
	}
	return []pipeline.Firewall{
		{Namespace: "joined", Number: 0x80000001, Rules: []pipeline.FirewallRule{
			{Allow: true, To: prefixes("192.0.2.7/32")},
			{To: prefixes("192.0.2.0/24"), Ports: ports(pipeline.TCP, 1000, 1003)},
			{Allow: true, To: prefixes("192.0.2.0/24"), Ports: ports(pipeline.TCP, 0, 0)},
			{Allow: true, To: prefixes("198.51.100.0/24"), Ports: ports(pipeline.UDP, 53, 53)},
			{Allow: true, To: prefixes("0.0.0.0/0"), Ports: ports(pipeline.TCP, 443, 443)},
			{To: prefixes("0.0.0.0/0"), Ports: ports(pipeline.UDP, 123, 123)},
			{To: prefixes("203.0.113.0/24")},
			{Allow: true, To: prefixes("0.0.0.0/0"), Ports: ports(pipeline.SCTP, 0, 0)},
			{To: prefixes("10.0.0.0/8"), Ports: ports(pipeline.TCP, 0, 0)},
			{Allow: true, To: prefixes("10.1.0.0/16", "192.168.108.0/24")},
			{To: prefixes("0.0.0.0/0"), Ports: ports(pipeline.UDP, 0, 0)},
			{Allow: true, To: prefixes("0.0.0.0/0"), Ports: ports(pipeline.TCP, 8000, 8999)},
			{To: prefixes("0.0.0.0/0")},
		}},
		{Namespace: "other", Number: 0x80000002, Rules: []pipeline.FirewallRule{
			{Allow: true, To: prefixes("0.0.0.0/0"), Ports: ports(pipeline.TCP, 80, 80)}, {To: prefixes("0.0.0.0/0")},
		}},
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
