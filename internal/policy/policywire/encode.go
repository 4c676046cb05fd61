package policywire

import (
	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Policy writes a policy.
func Policy(p *policy.Policy) *tenancyv1.ResolvedPolicy {
	out := &tenancyv1.ResolvedPolicy{
		Key: Key(p.Key), Tier: tenancyv1.PolicyTier(p.Tier), Priority: p.Priority,
		IsolatesIngress: p.Ingress, IsolatesEgress: p.Egress,
	}
	for i := range p.Rules {
		out.Rules = append(out.Rules, rule(&p.Rules[i]))
	}
	return out
}

func rule(r *policy.Rule) *tenancyv1.PolicyRule {
	out := &tenancyv1.PolicyRule{
		Name: r.Name, Direction: tenancyv1.PolicyDirection(r.Direction), Action: tenancyv1.PolicyAction(r.Action),
		AnyPeer: r.AnyPeer, AnyPort: r.AnyPort,
	}
	for _, p := range r.Peers {
		peer := &tenancyv1.PolicyPeer{Peer: &tenancyv1.PolicyPeer_Group{Group: string(p.Group)}}
		if p.Group == "" {
			peer.Peer = &tenancyv1.PolicyPeer_Block{Block: block(p.Block)}
		}
		out.Peers = append(out.Peers, peer)
	}
	for _, p := range r.Ports {
		out.Ports = append(out.Ports, &tenancyv1.PolicyPortRange{
			Protocol: Protocol(p.Protocol), First: uint32(p.First), Last: uint32(p.Last),
		})
	}
	for _, n := range r.Named {
		out.NamedPorts = append(out.NamedPorts, &tenancyv1.PolicyPortName{Protocol: Protocol(n.Protocol), Name: n.Name})
	}
	for _, e := range r.Endpoints {
		endpoints := &tenancyv1.PolicyEndpoints{Group: string(e.Group), Protocol: Protocol(e.Protocol)}
		if e.Within.CIDR.IsValid() {
			endpoints.Within = block(e.Within)
		}
		out.Endpoints = append(out.Endpoints, endpoints)
	}
	return out
}

func block(b policy.Block) *tenancyv1.AddressBlock {
	out := &tenancyv1.AddressBlock{Cidr: b.CIDR.String()}
	for _, e := range b.Except {
		out.Except = append(out.Except, e.String())
	}
	return out
}

// Placed is a pod with its policies, and which pod that is.
type Placed struct {
	Node, Sandbox string
	Pod           policy.Pod
}

// PodPolicies writes a pod's policies.
func PodPolicies(p *Placed) *tenancyv1.PodPolicies {
	out := &tenancyv1.PodPolicies{Node: p.Node, Namespace: p.Pod.Namespace, Name: p.Pod.Name, SandboxId: p.Sandbox}
	for _, a := range p.Pod.Addresses {
		out.Ips = append(out.Ips, a.String())
	}
	for _, port := range p.Pod.Ports {
		out.Ports = append(out.Ports, &tenancyv1.ContainerPort{
			Name: port.Name, ContainerPort: uint32(port.Port), Protocol: Protocol(port.Protocol),
		})
	}
	for _, k := range p.Pod.Policies {
		out.Policies = append(out.Policies, Key(k))
	}
	return out
}

// Protocol writes a protocol that has ports.
func Protocol(p policy.Protocol) tenancyv1.Protocol {
	switch p {
	case policy.TCP:
		return tenancyv1.Protocol_PROTOCOL_TCP
	case policy.UDP:
		return tenancyv1.Protocol_PROTOCOL_UDP
	case policy.SCTP:
		return tenancyv1.Protocol_PROTOCOL_SCTP
	}
	return tenancyv1.Protocol_PROTOCOL_UNSPECIFIED
}
