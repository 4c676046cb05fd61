package pipeline_test

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// anyNode draws a node with neighbours and pods as ipam and tenancy would allow
// them: nothing overlaps, addresses and ports are unique, VNIDs are shared or not.
func anyNode() *rapid.Generator[nodeCase] {
	return rapid.Custom(func(t *rapid.T) nodeCase {
		c := nodeCase{node: pipeline.Node{
			ClusterNetworks: prefixes("10.128.0.0/14", "10.64.0.0/16", "10.96.0.0/11")[:rapid.IntRange(1, 3).Draw(t, "networks")],
			ServiceNetworks: prefixes("172.30.0.0/16", "172.31.0.0/16")[:rapid.IntRange(1, 2).Draw(t, "services")],
			Mode:            rapid.SampledFrom([]pipeline.Mode{pipeline.Subnet, pipeline.Multitenant, pipeline.NetworkPolicy, pipeline.Combined}).Draw(t, "mode"),
			Userspace:       rapid.Bool().Draw(t, "userspace"),
			KeepConnections: rapid.Bool().Draw(t, "keep connections"),
			Succeeds:        rapid.Bool().Draw(t, "succeeds"),
			TunnelPort:      rapid.SampledFrom([]uint16{0, 4789, 6081}).Draw(t, "tunnel port"),
		}}
		// Subnet i is 10.128.0.0/14's i-th /23; node i has 192.168.0.i+1.
		order := rapid.Permutation([]int{0, 1, 2, 3, 4, 5, 6, 7}).Draw(t, "subnets")
		c.node.Subnet = netip.PrefixFrom(address(0x0a800000+uint32(order[0])<<9), 23)
		c.node.Gateway = c.node.Subnet.Addr().Next()
		c.node.HostIP = address(0xc0a80001)
		for i := range rapid.IntRange(0, 6).Draw(t, "remotes") {
			c.remotes = append(c.remotes, pipeline.Remote{
				Name: "n" + string(rune('a'+i)), HostIP: address(0xc0a80002 + uint32(i)),
				Subnets: []netip.Prefix{netip.PrefixFrom(address(0x0a800000+uint32(order[i+1])<<9), 23)},
			})
		}
		base := binary.BigEndian.Uint32(c.node.Subnet.Addr().AsSlice())
		vnids := rapid.SampledFrom([]uint32{0, 10, 272037, pipeline.MaxVNID})
		for i, offset := range rapid.SliceOfNDistinct(rapid.Uint32Range(2, 510), 0, 20, rapid.ID[uint32]).Draw(t, "addresses") {
			c.pods = append(c.pods, pipeline.Pod{
				Namespace: "ns", Name: "p" + string(rune('a'+i)), IP: address(base + offset),
				Port: pipeline.FirstPodPort + uint32(i), VNID: vnids.Draw(t, "vnid"), Inside: rapid.Bool().Draw(t, "inside"), ByEgressIP: rapid.Bool().Draw(t, "by egress IP"),
			})
			c.vnids = append(c.vnids, c.pods[i].VNID)
		}
		protocols := rapid.SampledFrom([]pipeline.Protocol{pipeline.TCP, pipeline.UDP, pipeline.SCTP})
		for i := range rapid.IntRange(0, 5).Draw(t, "services") {
			s := pipeline.Service{Namespace: "ns", Name: "s" + string(rune('a'+i)), VNID: rapid.OneOf(vnids, rapid.Just(pipeline.UnknownVNID)).Draw(t, "vnid")}
			for j := range rapid.IntRange(0, 2).Draw(t, "cluster IPs") {
				// Some are outside of the service networks.
				s.ClusterIPs = append(s.ClusterIPs, address(0xac1dfffd+uint32(2*i+j)))
			}
			for range rapid.IntRange(0, 4).Draw(t, "ports") {
				s.Ports = append(s.Ports, pipeline.ServicePort{Protocol: protocols.Draw(t, "protocol"), Port: rapid.Uint16Range(0, 3).Draw(t, "port")})
			}
			for _, protocol := range []pipeline.Protocol{pipeline.TCP, pipeline.UDP, pipeline.SCTP} {
				// Each of no other service, but perhaps there twice.
				for range rapid.IntRange(0, 2).Draw(t, "node ports") {
					s.NodePorts = append(s.NodePorts, pipeline.ServicePort{Protocol: protocol, Port: uint16(30000 + i)})
				}
			}
			c.services = append(c.services, s)
		}
		slices.Sort(c.vnids)
		c.vnids = slices.Compact(c.vnids)
		for _, vnid := range c.vnids {
			c.egress = append(c.egress, anyEgress(vnid, c.pods).Draw(t, "egress"))
			m := pipeline.Multicast{VNID: vnid}
			for _, pod := range c.pods {
				if pod.VNID == vnid && rapid.Bool().Draw(t, "multicast") {
					m.Pods = append(m.Pods, pod)
				}
			}
			c.multicast = append(c.multicast, m)
		}
		c.parts = map[int][]netip.Addr{}
		for _, remote := range c.remotes {
			part := rapid.IntRange(0, pipeline.MulticastParts-1).Draw(t, "part")
			c.parts[part] = append(c.parts[part], remote.HostIP)
		}
		if c.node.Mode.Policies() {
			c.policies = append(c.policies, policyflow.Tables().Base())
		}
		return c
	})
}

// anyEgress draws how a VNID leaves, with claims that contradict one another and with
// pods that are none of the node's.
func anyEgress(vnid uint32, pods []pipeline.Pod) *rapid.Generator[pipeline.Egress] {
	pod := rapid.Custom(func(t *rapid.T) netip.Addr {
		if len(pods) > 0 && rapid.Bool().Draw(t, "local") {
			return rapid.SampledFrom(pods).Draw(t, "pod").IP
		}
		return address(0x0a800000 + rapid.Uint32Range(2, 9).Draw(t, "remote pod"))
	})
	place := rapid.Custom(func(t *rapid.T) pipeline.EgressPlace {
		if rapid.Bool().Draw(t, "here") {
			return pipeline.EgressPlace{Slot: rapid.Uint32Range(0, 70).Draw(t, "slot")}
		}
		return pipeline.EgressPlace{Node: address(0xc0a80002 + rapid.Uint32Range(0, 5).Draw(t, "node"))}
	})
	way := rapid.Custom(func(t *rapid.T) pipeline.EgressWay {
		return rapid.SliceOfN(place, 0, 4).Draw(t, "places")
	})
	return rapid.Custom(func(t *rapid.T) pipeline.Egress {
		e := pipeline.Egress{VNID: vnid, Pods: rapid.MapOfN(pod, way, 0, 3).Draw(t, "pods")}
		e.Reserved.Masquerade = rapid.SampledFrom([]uint8{0, 14, 20}).Draw(t, "masquerade bit")
		if rapid.Bool().Draw(t, "whole") {
			whole := way.Draw(t, "way")
			e.Whole = &whole
		}
		for range rapid.IntRange(0, 3).Draw(t, "hosted") {
			e.Hosted = append(e.Hosted, pipeline.EgressHosted{
				Slot: rapid.Uint32Range(0, 3).Draw(t, "slot"), MatchPods: rapid.Bool().Draw(t, "match pods"),
				Pods: rapid.SliceOfN(pod, 0, 3).Draw(t, "hosted pods"),
			})
		}
		return e
	})
}

func address(number uint32) netip.Addr {
	return netip.AddrFrom4([4]byte(binary.BigEndian.AppendUint32(nil, number)))
}

func TestAnyNodesFlowsHoldThePromises(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := anyNode().Draw(t, "node")
		owners := map[openflow.Key]string{}
		var flows []openflow.Flow
		for _, f := range c.fragments() {
			for _, flow := range f.Flows {
				if other, taken := owners[flow.Key()]; taken {
					t.Fatalf("%s and %s both have %s", other, f.Owner, flow.Key())
				}
				owners[flow.Key()] = f.Owner
				flows = append(flows, flow)
			}
		}
		ends := tablesThatEnd(flows)
		for _, flow := range flows {
			text := flow.String()
			if err := flow.Check(); err != nil {
				t.Fatalf("the switch would refuse: %v", err)
			}
			if words := pipeline.Describe(flow); words == "not a flow of Damask" || strings.ContainsAny(words, "{}") {
				t.Fatalf("%s is described as %q", text, words)
			}
			if table, goes := gotoTable(text); goes && (table <= flow.Table || !ends[table]) {
				t.Fatalf("%s leads backward, or to a table without a last flow", text)
			}
			if why := mayCircle(flow, ends); why != "" {
				t.Fatalf("%s %s", text, why)
			}
			if c.node.Mode == pipeline.Subnet && loadsVNID(text) {
				t.Fatalf("a register is not 0 in subnet mode: %s", text)
			}
		}
	})
}

func TestRemoteWithThisNodesAddressHasNoFlows(t *testing.T) {
	c := nodeCases()[0]
	remote := pipeline.Remote{Name: "self", HostIP: c.node.HostIP, Subnets: prefixes("10.131.2.0/23")}
	if f := pipeline.RemoteFragment(c.node, remote); len(f.Flows) != 0 {
		t.Errorf("got %d flows, want none: %v", len(f.Flows), f.Flows)
	}
}

func TestUnsafePodHasNoFlows(t *testing.T) {
	c := nodeCases()[1]
	for name, change := range map[string]func(*pipeline.Pod){
		"the gateway's address":         func(p *pipeline.Pod) { p.IP = c.node.Gateway },
		"no address":                    func(p *pipeline.Pod) { p.IP = netip.Addr{} },
		"the tunnel's port":             func(p *pipeline.Pod) { p.Port = pipeline.PortTunnel },
		"the gateway's port":            func(p *pipeline.Pod) { p.Port = pipeline.PortGateway },
		"no port":                       func(p *pipeline.Pod) { p.Port = 0 },
		"a VNID that no tunnel carries": func(p *pipeline.Pod) { p.VNID = pipeline.MaxVNID + 1 },
	} {
		t.Run(name, func(t *testing.T) {
			pod := c.pods[0]
			change(&pod)
			if f := pipeline.PodFragment(c.node, pod); len(f.Flows) != 0 {
				t.Errorf("got %d flows, want none: %v", len(f.Flows), f.Flows)
			}
		})
	}
}
