package lab

import (
	"encoding/json"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// wantFlowsFromScratch compares the flows of a node, as ovs-ofctl prints them,
// with those compiled anew from what the cluster's objects say and from the
// ports that OVSDB holds.
func (c *cluster) wantFlowsFromScratch(t *testing.T, name string) {
	t.Helper()
	for _, difference := range c.flowDifferences(t, name) {
		t.Error(difference)
	}
}

// flowDifferences answers what wantFlowsFromScratch complains of.
func (c *cluster) flowDifferences(t *testing.T, name string) (all []string) {
	t.Helper()
	want := textOf(c.compiled(t, name))
	got := c.flowLines(name)
	for _, line := range got {
		if !slices.Contains(want, line) {
			all = append(all, fmt.Sprintf("%s has a flow that nothing asks for: %s", name, line))
		}
	}
	for _, line := range want {
		if !slices.Contains(got, line) {
			all = append(all, fmt.Sprintf("%s lacks a flow: %s", name, line))
		}
	}
	return all
}

// stampMatch is in flows of the stamp alone, which each change of others replaces.
const stampMatch = "priority=65535,pkt_mark="

// flowLines answers br0's flows but the stamp, one normal line each.
func (c *cluster) flowLines(name string) []string {
	c.t.Helper()
	var lines []string
	for line := range strings.Lines(c.exec(onNode(name), "ovs-ofctl", "-O", "OpenFlow13", "--no-stats", "--no-names", "dump-flows", "br0")) {
		line = strings.TrimSpace(line)
		if !strings.Contains(line, "actions=") || strings.Contains(line, stampMatch) {
			continue
		}
		if _, rest, ok := strings.Cut(line, ", "); ok && strings.HasPrefix(line, "cookie=") {
			line = rest
		}
		lines = append(lines, normal(line))
	}
	slices.Sort(lines)
	return lines
}

func textOf(flows []openflow.Flow) []string {
	var lines []string
	for _, f := range flows {
		lines = append(lines, normal(f.String()))
	}
	slices.Sort(lines)
	return slices.Compact(lines)
}

// normal spells a flow in one way: the order of match fields and blanks do not
// matter, and ovs-ofctl leaves out table 0 and the default priority.
func normal(line string) string {
	match, actions, _ := strings.Cut(line, "actions=")
	fields := strings.FieldsFunc(match, func(r rune) bool { return r == ',' || r == ' ' })
	table, priority := "table=0", "priority=32768"
	var rest []string
	for _, f := range fields {
		switch {
		case strings.HasPrefix(f, "table="):
			table = f
		case strings.HasPrefix(f, "priority="):
			priority = f
		default:
			rest = append(rest, f)
		}
	}
	slices.Sort(rest)
	return fmt.Sprintf("%s %s %s actions=%s", table, priority, strings.Join(rest, ","), strings.TrimSpace(actions))
}

// compiled compiles a node's flows from the cluster's objects.
func (c *cluster) compiled(t *testing.T, name string) []openflow.Flow {
	t.Helper()
	node := pipeline.Node{
		ClusterNetworks: []netip.Prefix{netip.MustParsePrefix("10.128.0.0/14")},
		ServiceNetworks: []netip.Prefix{netip.MustParsePrefix("172.30.0.0/16")},
		TunnelPort:      4789,
		Userspace:       userspace(),
		Mode:            pipeline.Multitenant,
	}
	if strings.TrimSpace(c.ctl("mode", "get")) == "subnet" {
		node.Mode = pipeline.Subnet
	}
	var flows []openflow.Flow
	var remotes []pipeline.Remote
	for _, n := range c.known().GetNodes() {
		subnet := netip.MustParsePrefix(n.GetSubnet())
		if n.GetName() == name {
			node.Subnet, node.Gateway, node.HostIP = subnet, subnet.Addr().Next(), netip.MustParseAddr(n.GetIp())
			continue
		}
		remotes = append(remotes, pipeline.Remote{Name: n.GetName(), HostIP: netip.MustParseAddr(n.GetIp()), Subnets: []netip.Prefix{subnet}})
	}
	if kept := strings.Trim(strings.TrimSpace(c.exec(onNode(name), "ovs-vsctl", "--if-exists", "get", "Interface", "tun0", "external_ids:kept-mac")), `"`); kept != "" {
		mac, err := net.ParseMAC(kept)
		if err != nil {
			t.Fatal(err)
		}
		node.KeptMAC = mac
		node.Succeeds = true // no test takes as long as a succession
	}
	flows = append(flows, pipeline.Base(node).Flows...)
	for _, r := range remotes {
		flows = append(flows, pipeline.RemoteFragment(node, r).Flows...)
	}
	vnids := c.vnids()
	for _, p := range c.portsOf(name) {
		vnid := uint32(vnids[p.namespace])
		flows = append(flows, pipeline.PodFragment(node, pipeline.Pod{Namespace: p.namespace, Name: p.name, IP: p.ip, Port: p.ofport, VNID: vnid}).Flows...)
		flows = append(flows, pipeline.TenantFragment(node, vnid).Flows...)
	}
	for _, s := range c.services() {
		if vnid, known := vnids[s.Namespace]; known {
			s.VNID = uint32(vnid)
			flows = append(flows, pipeline.ServiceFragment(node, s).Flows...)
		}
	}
	return flows
}

// services answers the services that have cluster IPs, as the API has them.
func (c *cluster) services() []pipeline.Service {
	c.t.Helper()
	var list struct {
		Items []struct {
			Namespace, Name string
			ClusterIPs      []netip.Addr `json:"clusterIps"`
			Ports           []struct {
				Protocol string
				Port     uint16
			}
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(c.ctl("get", "services", "-o", "json")), &list); err != nil {
		c.t.Fatal(err)
	}
	var all []pipeline.Service
	for _, item := range list.Items {
		s := pipeline.Service{Namespace: item.Namespace, Name: item.Name, ClusterIPs: item.ClusterIPs}
		for _, p := range item.Ports {
			s.Ports = append(s.Ports, pipeline.ServicePort{Protocol: pipeline.Protocol(strings.TrimPrefix(p.Protocol, "PROTOCOL_")), Port: p.Port})
		}
		all = append(all, s)
	}
	return all
}

// podPort is a pod's port as OVSDB has it.
type podPort struct {
	namespace, name string
	ip              netip.Addr
	ofport          uint32
}

func (c *cluster) portsOf(name string) []podPort {
	c.t.Helper()
	var table struct {
		Data [][]json.RawMessage `json:"data"`
	}
	out := c.exec(onNode(name), "ovs-vsctl", "--format=json", "--columns=ofport,external_ids", "list", "Interface")
	if err := json.Unmarshal([]byte(out), &table); err != nil {
		c.t.Fatal(err)
	}
	var ports []podPort
	for _, row := range table.Data {
		var tagged []json.RawMessage // ["map", [[key, value], ...]]
		var pairs [][2]string
		var p podPort
		if json.Unmarshal(row[1], &tagged) != nil || json.Unmarshal(tagged[1], &pairs) != nil || json.Unmarshal(row[0], &p.ofport) != nil {
			continue
		}
		for _, pair := range pairs {
			switch pair[0] {
			case "ns":
				p.namespace = pair[1]
			case "name":
				p.name = pair[1]
			case "ip":
				p.ip = netip.MustParseAddr(pair[1])
			}
		}
		if p.name != "" {
			ports = append(ports, p)
		}
	}
	return ports
}

// vnids answers the VNID of each namespace, as the API has it.
func (c *cluster) vnids() map[string]int {
	c.t.Helper()
	var list struct {
		Items []struct {
			Name  string `json:"name"`
			Netid int    `json:"netid"`
		} `json:"items"`
	}
	if err := json.Unmarshal([]byte(c.ctl("get", "netnamespaces", "-o", "json")), &list); err != nil {
		c.t.Fatal(err)
	}
	vnids := map[string]int{}
	for _, n := range list.Items {
		vnids[n.Name] = n.Netid
	}
	return vnids
}
