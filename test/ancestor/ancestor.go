// Package ancestor is a node of OpenShift SDN, as far as tests of a takeover need one: its
// bridge with its flows, its iptables and its CNI plugin.
//
// It owns what the reference tells of a node (its section 1, and
// what of sections 2, 3 and 7 is on the wire), flow by flow and rule by rule. It promises
// nothing about changes: what a node knows of tenants, other nodes and policies it is told
// at its start. Services are of the plain kind, and a namespace has one egress IP; firewalls
// and multicast it has none of, as a cluster that uses none. Damask's packages it must not use,
// or it would agree with them by itself.
//
// On the userspace datapath, which OpenShift SDN never had, things are added that no
// packet of the pod network can tell: see userspace.go.
package ancestor

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/exec"
	"strings"
)

// The modes, by their plugins' numbers in the note of table 253.
const (
	Subnet        = "00"
	Multitenant   = "01"
	NetworkPolicy = "02"
)

// Config is what a node is and knows.
type Config struct {
	// Mode is one of the above.
	Mode string
	// HostIP is the node's address, on Device.
	HostIP netip.Addr
	// Device is the interface that has HostIP.
	Device string
	// Subnet is the node's HostSubnet.
	Subnet netip.Prefix
	// ClusterNetwork and ServiceNetwork are the cluster's.
	ClusterNetwork, ServiceNetwork netip.Prefix
	// VXLANPort is the tunnel's UDP port.
	VXLANPort uint16
	// MTU is that of pods, in bytes.
	MTU int
	// Userspace says that br0's datapath is netdev.
	Userspace bool
	// VNIDs are the NetNamespaces.
	VNIDs map[string]uint32
	// Remotes are the HostSubnets of other nodes.
	Remotes []Remote
	// Isolated are the namespaces with NetworkPolicies.
	Isolated []Isolated
	// Services are those of the cluster.
	Services []Service
	// Egress are the namespaces with an egress IP.
	Egress []Egress
}

// Remote is another node.
type Remote struct {
	// UID is its HostSubnet object's.
	UID string
	// HostIP is its address.
	HostIP netip.Addr
	// Subnet is its pods' network.
	Subnet netip.Prefix
}

// gateway is tun0's address.
func (c Config) gateway() netip.Addr { return c.Subnet.Addr().Next() }

// Run is OpenShift SDN's agent with the configuration in a file: it makes the node and
// serves the plugin until its standard input closes. Like the real one it leaves
// everything as it is then.
func Run(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return fmt.Errorf("read %s: %w", file, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	n := &node{Config: c}
	if err := n.setUp(ctx); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() { ended <- n.serve(ctx) }()
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	cancel()
	return <-ended
}

// node is the agent's node.
type node struct {
	Config

	tunMAC, nodeMAC string
	last            netip.Addr // the address given out last
}

// command runs a program, which must succeed, and answers its output.
func command(ctx context.Context, input, program string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Stdin = strings.NewReader(input)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String()), nil
}

// each runs commands, given as words, one after the other.
func each(ctx context.Context, lines ...string) error {
	for _, line := range lines {
		words := strings.Fields(line)
		if _, err := command(ctx, "", words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// setUp makes the bridge, tun0, the flows that every node has, and iptables.
func (n *node) setUp(ctx context.Context) error {
	datapath := "system"
	if n.Userspace {
		datapath = "netdev"
	}
	tunnel := "type=vxlan options:remote_ip=flow options:key=flow"
	err := each(ctx,
		"ovs-vsctl --if-exists del-br br0",
		"ovs-vsctl add-br br0 -- set Bridge br0 fail_mode=secure protocols=OpenFlow13 datapath_type="+datapath,
		"ovs-ofctl -O OpenFlow13 set-frags br0 nx-match",
		fmt.Sprintf("ovs-vsctl add-port br0 vxlan0 -- set Interface vxlan0 ofport_request=1 %s options:dst_port=%d", tunnel, n.VXLANPort),
		fmt.Sprintf("ovs-vsctl add-port br0 tun0 -- set Interface tun0 type=internal ofport_request=2 mtu_request=%d", n.MTU),
	)
	if err != nil {
		return err
	}
	if n.tunMAC, err = command(ctx, "", "ovs-vsctl", "get", "Interface", "tun0", "mac_in_use"); err != nil {
		return err
	}
	n.tunMAC = strings.Trim(n.tunMAC, `"`)
	if n.nodeMAC, err = command(ctx, "", "cat", "/sys/class/net/"+n.Device+"/address"); err != nil {
		return err
	}
	if n.Userspace {
		if err := offloadOff(ctx, "tun0"); err != nil {
			return err
		}
	}
	err = each(ctx,
		fmt.Sprintf("ip addr add %s/%d dev tun0", n.gateway(), n.Subnet.Bits()),
		"ip link set tun0 up",
		fmt.Sprintf("ip route del %s dev tun0", n.Subnet),
		fmt.Sprintf("ip route add %s dev tun0 proto kernel scope link", n.ClusterNetwork),
		fmt.Sprintf("ip route add %s dev tun0", n.ServiceNetwork),
	)
	if err != nil {
		return err
	}
	for _, step := range []func(context.Context) error{
		func(ctx context.Context) error { return n.bundle(ctx, n.baseFlows()) }, n.masquerade, n.leave, n.proxy,
	} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// bundle sends flows as OpenShift SDN does, all or none.
func (n *node) bundle(ctx context.Context, flows []string) error {
	input := "flow add " + strings.Join(flows, "\nflow add ") + "\n"
	_, err := command(ctx, input, "ovs-ofctl", "-O", "OpenFlow13", "bundle", "br0", "-")
	return err
}
