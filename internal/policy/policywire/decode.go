package policywire

import (
	"errors"
	"fmt"
	"math"
	"net/netip"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// reader collects what is wrong with a message.
type reader struct{ problems []error }

func (r *reader) refuse(format string, args ...any) {
	r.problems = append(r.problems, fmt.Errorf(format, args...))
}

func (r *reader) err(what string) error {
	if err := errors.Join(r.problems...); err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

// ReadPolicy reads a policy. The error has every problem.
func ReadPolicy(m *tenancyv1.ResolvedPolicy) (policy.Policy, error) {
	r := &reader{}
	p := policy.Policy{
		Key: r.key(m.GetKey()), Tier: policy.Tier(r.choice("tier", int32(m.GetTier()), int32(policy.Baseline))),
		Priority: m.GetPriority(), Ingress: m.GetIsolatesIngress(), Egress: m.GetIsolatesEgress(),
	}
	if (p.Ingress || p.Egress) && p.Tier != policy.Namespace {
		r.refuse("a policy of tier %d does not isolate", p.Tier)
	}
	for i, rule := range m.GetRules() {
		p.Rules = append(p.Rules, r.rule(i, rule))
	}
	if err := r.err("policy " + PolicyName(p.Key)); err != nil {
		return policy.Policy{}, err
	}
	return p, nil
}

func (r *reader) key(m *tenancyv1.PolicyKey) policy.Key {
	k := KeyOf(m)
	if k.Kind == "" || k.Name == "" {
		r.refuse("key %v has no kind or no name", k)
	}
	return k
}

// choice reads an enum whose values are 1 to last.
func (r *reader) choice(what string, value, last int32) uint8 {
	if value < 1 || value > last {
		r.refuse("%s %d is not known", what, value)
		return 0
	}
	return uint8(value)
}

func (r *reader) rule(i int, m *tenancyv1.PolicyRule) policy.Rule {
	out := policy.Rule{
		Name:      m.GetName(),
		Direction: policy.Direction(r.choice("direction", int32(m.GetDirection()), int32(policy.Egress))),
		Action:    policy.Action(r.choice("action", int32(m.GetAction()), int32(policy.Pass))),
		AnyPeer:   m.GetAnyPeer(), AnyPort: m.GetAnyPort(),
	}
	if out.AnyPeer && len(m.GetPeers()) > 0 || out.AnyPort && len(m.GetPorts())+len(m.GetNamedPorts()) > 0 {
		r.refuse("rule %d means everything, and something besides", i)
	}
	if out.Direction == policy.Ingress && len(m.GetEndpoints()) > 0 || out.Direction == policy.Egress && len(m.GetNamedPorts()) > 0 {
		r.refuse("rule %d has names of ports of the other direction", i)
	}
	for _, p := range m.GetPeers() {
		switch peer := p.GetPeer().(type) {
		case *tenancyv1.PolicyPeer_Group:
			out.Peers = append(out.Peers, policy.Peer{Group: r.group(peer.Group)})
		case *tenancyv1.PolicyPeer_Block:
			out.Peers = append(out.Peers, policy.Peer{Block: r.block(peer.Block)})
		default:
			r.refuse("rule %d has a peer of an unknown kind", i)
		}
	}
	for _, p := range m.GetPorts() {
		span := policy.PortRange{Protocol: r.protocol(p.GetProtocol()), First: r.port(p.GetFirst()), Last: r.port(p.GetLast())}
		if span.Last < span.First || span.First == 0 && span.Last != 0 {
			r.refuse("rule %d has ports %d to %d", i, span.First, span.Last)
		}
		out.Ports = append(out.Ports, span)
	}
	for _, n := range m.GetNamedPorts() {
		out.Named = append(out.Named, policy.PortName{Protocol: r.protocol(n.GetProtocol()), Name: r.name(n.GetName())})
	}
	for _, e := range m.GetEndpoints() {
		endpoints := policy.Endpoints{Group: r.group(e.GetGroup()), Protocol: r.protocol(e.GetProtocol())}
		if e.GetWithin() != nil {
			endpoints.Within = r.block(e.GetWithin())
		}
		out.Endpoints = append(out.Endpoints, endpoints)
	}
	return out
}

func (r *reader) group(id string) policy.GroupID {
	if id == "" {
		r.refuse("a group has no id")
	}
	return policy.GroupID(id)
}

func (r *reader) name(name string) string {
	if name == "" {
		r.refuse("a named port has no name")
	}
	return name
}

func (r *reader) block(m *tenancyv1.AddressBlock) policy.Block {
	b := policy.Block{CIDR: r.prefix(m.GetCidr())}
	for _, e := range m.GetExcept() {
		b.Except = append(b.Except, r.prefix(e))
	}
	return b
}

func (r *reader) prefix(text string) netip.Prefix {
	p, err := netip.ParsePrefix(text)
	if err != nil || p != p.Masked() || p.Addr().Is4In6() {
		r.refuse("%q is not a prefix", text)
	}
	return p
}

func (r *reader) protocol(p tenancyv1.Protocol) policy.Protocol {
	switch p {
	case tenancyv1.Protocol_PROTOCOL_TCP:
		return policy.TCP
	case tenancyv1.Protocol_PROTOCOL_UDP:
		return policy.UDP
	case tenancyv1.Protocol_PROTOCOL_SCTP:
		return policy.SCTP
	}
	r.refuse("protocol %d is not known", p)
	return 0
}

func (r *reader) port(n uint32) uint16 {
	if n > math.MaxUint16 {
		r.refuse("%d is not a port", n)
		return 0
	}
	return uint16(n)
}

// ReadPodPolicies reads a pod's policies. The error has every problem.
func ReadPodPolicies(m *tenancyv1.PodPolicies) (Placed, error) {
	r := &reader{}
	p := Placed{Node: m.GetNode(), Sandbox: m.GetSandboxId(), Pod: policy.Pod{Namespace: m.GetNamespace(), Name: m.GetName()}}
	if p.Node == "" || p.Sandbox == "" || p.Pod.Namespace == "" || p.Pod.Name == "" {
		r.refuse("the node, the sandbox, the namespace or the name is missing")
	}
	for _, ip := range m.GetIps() {
		a, err := netip.ParseAddr(ip)
		if err != nil || a.Zone() != "" {
			r.refuse("%q is not an address", ip)
		}
		p.Pod.Addresses = append(p.Pod.Addresses, a)
	}
	for _, port := range m.GetPorts() {
		p.Pod.Ports = append(p.Pod.Ports, policy.NamedPort{
			Name: r.name(port.GetName()), Protocol: r.protocol(port.GetProtocol()), Port: r.port(port.GetContainerPort()),
		})
	}
	for _, k := range m.GetPolicies() {
		p.Pod.Policies = append(p.Pod.Policies, r.key(k))
	}
	if err := r.err("policies of pod " + NameOfPod(m)); err != nil {
		return Placed{}, err
	}
	return p, nil
}
