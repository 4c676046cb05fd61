package policyflow

import (
	"fmt"
	"net/netip"

	"github.com/damask-sdn/damask/internal/policy"
	"pgregory.net/rapid"
)

var groupIDs = []policy.GroupID{"g1", "g2", "g3"}

func drawAddr(t *rapid.T) netip.Addr {
	return netip.AddrFrom4([4]byte{10, 0, byte(rapid.IntRange(0, 1).Draw(t, "net")), byte(rapid.IntRange(1, 4).Draw(t, "host"))})
}

func drawMembers(t *rapid.T) []policy.Member {
	return rapid.SliceOfNDistinct(rapid.Custom(func(t *rapid.T) policy.Member {
		m := policy.Member{Addr: drawAddr(t)}
		if rapid.Bool().Draw(t, "with port") {
			m.Port = uint16(rapid.IntRange(80, 81).Draw(t, "port"))
		}
		if rapid.IntRange(0, 9).Draw(t, "IPv6") == 0 {
			m.Addr = netip.MustParseAddr("fd00::1")
		}
		return m
	}), 0, 6, rapid.ID[policy.Member]).Draw(t, "members")
}

func drawBlock(t *rapid.T) policy.Block {
	prefix := rapid.SampledFrom([]string{"0.0.0.0/0", "10.0.0.0/16", "10.0.0.0/24", "10.0.1.2/31", "fd00::/8"})
	b := policy.Block{CIDR: netip.MustParsePrefix(prefix.Draw(t, "cidr"))}
	for range rapid.IntRange(0, 2).Draw(t, "excepts") {
		b.Except = append(b.Except, netip.MustParsePrefix(rapid.SampledFrom([]string{"10.0.0.2/31", "10.0.1.0/25", "10.0.0.1/32"}).Draw(t, "except")))
	}
	return b
}

func drawProtocol(t *rapid.T) policy.Protocol {
	return rapid.SampledFrom([]policy.Protocol{policy.TCP, policy.UDP, policy.SCTP}).Draw(t, "protocol")
}

func drawRule(t *rapid.T, tier policy.Tier) policy.Rule {
	r := policy.Rule{Direction: rapid.SampledFrom([]policy.Direction{policy.Ingress, policy.Egress}).Draw(t, "direction"), Action: policy.Allow}
	if tier != policy.Namespace {
		r.Action = rapid.SampledFrom([]policy.Action{policy.Allow, policy.Deny, policy.Pass}).Draw(t, "action")
	}
	if r.AnyPeer = rapid.IntRange(0, 3).Draw(t, "any peer") == 0; !r.AnyPeer {
		for range rapid.IntRange(0, 3).Draw(t, "peers") {
			if rapid.Bool().Draw(t, "block") {
				r.Peers = append(r.Peers, policy.Peer{Block: drawBlock(t)})
			} else {
				r.Peers = append(r.Peers, policy.Peer{Group: rapid.SampledFrom(groupIDs).Draw(t, "group")})
			}
		}
	}
	if r.AnyPort = rapid.IntRange(0, 2).Draw(t, "any port") == 0; r.AnyPort {
		return r
	}
	for range rapid.IntRange(0, 2).Draw(t, "ranges") {
		p := policy.PortRange{Protocol: drawProtocol(t)}
		if rapid.IntRange(0, 3).Draw(t, "all") > 0 {
			p.First = uint16(rapid.IntRange(78, 82).Draw(t, "first"))
			p.Last = p.First + uint16(rapid.IntRange(0, 9).Draw(t, "more"))
		}
		r.Ports = append(r.Ports, p)
	}
	for range rapid.IntRange(0, 2).Draw(t, "names") {
		if r.Direction == policy.Ingress {
			r.Named = append(r.Named, policy.PortName{Protocol: drawProtocol(t), Name: "p"})
			continue
		}
		e := policy.Endpoints{Group: rapid.SampledFrom(groupIDs).Draw(t, "endpoints"), Protocol: drawProtocol(t)}
		if rapid.Bool().Draw(t, "within") {
			e.Within = drawBlock(t)
		}
		r.Endpoints = append(r.Endpoints, e)
	}
	return r
}

func drawKey(t *rapid.T) policy.Key {
	return policy.Key{Kind: "K", Namespace: "n", Name: fmt.Sprint("p", rapid.IntRange(0, 4).Draw(t, "name"))}
}

func drawPolicy(t *rapid.T) policy.Policy {
	p := policy.Policy{Key: drawKey(t), Tier: rapid.SampledFrom([]policy.Tier{policy.Admin, policy.Namespace, policy.Namespace, policy.Baseline}).Draw(t, "tier"),
		Priority: rapid.Int32Range(0, 2).Draw(t, "priority"), Ingress: rapid.IntRange(0, 3).Draw(t, "ingress") > 0, Egress: rapid.IntRange(0, 3).Draw(t, "egress") > 0}
	for range rapid.IntRange(0, 3).Draw(t, "rules") {
		r := drawRule(t, p.Tier)
		if p.Tier != policy.Namespace || r.Direction == policy.Ingress && p.Ingress || r.Direction == policy.Egress && p.Egress {
			p.Rules = append(p.Rules, r)
		}
	}
	return p
}

func drawPod(t *rapid.T) policy.Pod {
	n := rapid.IntRange(1, 3).Draw(t, "pod")
	p := policy.Pod{Namespace: "n", Name: fmt.Sprint(n), Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(n)})}}
	if rapid.Bool().Draw(t, "named port") {
		p.Ports = []policy.NamedPort{{Name: "p", Protocol: drawProtocol(t), Port: uint16(rapid.IntRange(80, 81).Draw(t, "number"))}}
	}
	p.Policies = rapid.SliceOfNDistinct(rapid.Custom(drawKey), 1, 4, rapid.ID[policy.Key]).Draw(t, "policies")
	return p
}
