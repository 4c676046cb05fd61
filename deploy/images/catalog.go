package main

import "github.com/damask-sdn/damask/deploy/images/debian"

// image says what is in one image. The zero values of user and debian mean a program
// of ours alone, run by nobody in particular.
type image struct {
	// name is the image's, and its archive's without ".tar".
	name string
	// title is what the image is for, in a line.
	title string
	// programs are the binaries of ours in /usr/bin; the first one is started.
	programs []string
	// root says that the program needs root: it changes the node.
	root bool
	// debian is what the programs start besides, or nil.
	debian *debian.Choice
}

// iptables is what the agent starts: it reads and writes the rules of other programs
// too, so it needs all extensions. The backend is nf_tables, Debian's default.
// /etc/protocols has the names of protocols that iptables does not know itself.
var iptables = &debian.Choice{
	Packages: []string{"iptables", "libxtables12", "libmnl0", "libnftnl11", "libnetfilter-conntrack3", "libnfnetlink0", "libc6", "netbase"},
	Take: []string{
		"usr/sbin/xtables-nft-multi",
		"usr/lib/*/xtables/libxt_*.so", "usr/lib/*/xtables/libipt_*.so",
		"etc/protocols",
	},
	Links: map[string]string{
		"usr/sbin/iptables":         "xtables-nft-multi",
		"usr/sbin/iptables-save":    "xtables-nft-multi",
		"usr/sbin/iptables-restore": "xtables-nft-multi",
	},
}

// openVSwitch is what damask-ovs starts, and what people ask it with. ovs-vswitchd has
// another name in the package, since Debian has a second one, for DPDK.
var openVSwitch = &debian.Choice{
	Packages: []string{
		"openvswitch-switch", "openvswitch-common", "libssl3", "libcap-ng0", "libnuma1", "libxdp1", "libbpf1", "libunbound8", "libc6",
		"libelf1", "zlib1g", "libevent-2.1-7", "libhogweed6", "libnettle8", "libgmp10",
	},
	Take: []string{
		"usr/lib/openvswitch-switch/ovs-vswitchd", "usr/sbin/ovsdb-server",
		"usr/bin/ovsdb-tool", "usr/bin/ovsdb-client", "usr/bin/ovs-vsctl", "usr/bin/ovs-appctl", "usr/bin/ovs-ofctl", "usr/bin/ovs-dpctl",
		"usr/share/openvswitch/vswitch.ovsschema",
	},
	Links: map[string]string{"usr/sbin/ovs-vswitchd": "../lib/openvswitch-switch/ovs-vswitchd"},
}

// catalog is every image that there is.
var catalog = []image{
	{name: "damask-ipam", title: "Damask: the address plan, and each node's pod subnet", programs: []string{"damask-ipam"}},
	{name: "damask-tenancy", title: "Damask: VNIDs, network policies and the pod registry", programs: []string{"damask-tenancy"}},
	{name: "damask-servicelb", title: "Damask: services and their endpoints", programs: []string{"damask-servicelb"}},
	{name: "damask-egress", title: "Damask: egress IPs and egress firewalls", programs: []string{"damask-egress"}},
	{name: "damask-nats", title: "Damask: the store and change bus", programs: []string{"damask-nats"}},
	{name: "damask-certificates", title: "Damask: the CA, and everybody's certificate", programs: []string{"damask-certificates"}},
	{name: "damask", title: "Damask: the operator's command", programs: []string{"damask"}},
	{name: "damask-egress-router", title: "Damask: the proxies of an egress router", programs: []string{"damask-egress-router"}},
	{
		name: "damask-nodeagent", title: "Damask: the agent of one node, and the CNI plugin", root: true,
		programs: []string{"damask-nodeagent", "damask-cni", "damask-cni-install", "damask-node-certificate"},
		debian:   iptables,
	},
	{name: "damask-ovs", title: "Damask: Open vSwitch for a node that has none", root: true, programs: []string{"damask-ovs"}, debian: openVSwitch},
}
