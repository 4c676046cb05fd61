package intent

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// FollowLookups says by whose answers it is known which names there are below a wildcard:
// the DNS servers of pods, IPv4. From then on their answers to pods whose namespace
// allows a wildcard are copied. Without any, wildcards open nothing. It must be called before
// the switch is compared first, and may be again.
func (s *State) FollowLookups(resolvers []netip.AddrPort) (change Change) {
	s.mu.Lock()
	defer s.mu.Unlock()
	next := slices.Compact(slices.SortedFunc(slices.Values(resolvers), netip.AddrPort.Compare))
	if slices.Equal(next, s.firewalls.resolvers) {
		return Change{}
	}
	s.firewalls.resolvers = next
	for namespace := range s.firewalls.namespaces {
		if s.hasWildcard(namespace) {
			change.Owners = union(change.Owners, s.podsIn(namespace))
		}
	}
	return change
}

// resolvers are those whose answers to a namespace's pods are copied. The caller holds the
// lock.
func (s *State) resolvers(namespace string) []netip.AddrPort {
	if !s.hasWildcard(namespace) {
		return nil
	}
	return s.firewalls.resolvers
}

// hasWildcard says whether a rule of a namespace that is in force has one. The caller holds the
// lock.
func (s *State) hasWildcard(namespace string) bool {
	f := s.firewalls.namespaces[namespace]
	return f != nil && slices.ContainsFunc(f.inForce, func(r firewallRule) bool { return isWildcard(r.name) })
}

// isWildcard says whether a rule's name means all names below one.
func isWildcard(name string) bool { return strings.HasPrefix(name, "*.") }

// Wildcards are those of the names that rules have, sorted.
func (s *State) Wildcards() []string {
	return slices.DeleteFunc(s.FirewallNames(), func(name string) bool { return !isWildcard(name) })
}

// parsePolicies answers the rules of all policies of a namespace as one list.
func parsePolicies(policies []*egressv1.EgressNetworkPolicy) ([]firewallRule, error) {
	ordered := slices.SortedFunc(slices.Values(policies), func(a, b *egressv1.EgressNetworkPolicy) int {
		return cmp.Or(cmp.Compare(a.GetOrder(), b.GetOrder()), cmp.Compare(a.GetName(), b.GetName()))
	})
	all := []firewallRule{}
	for _, p := range ordered {
		for i, r := range p.GetRules() {
			rule, err := parseRule(r)
			if err != nil {
				return nil, fmt.Errorf("rule %d of policy %s: %w", i, p.GetName(), err)
			}
			all = append(all, rule)
		}
	}
	return all, nil
}

func parseRule(r *egressv1.EgressRule) (rule firewallRule, err error) {
	switch r.GetType() {
	case egressv1.RuleType_RULE_TYPE_ALLOW:
		rule.allow = true
	case egressv1.RuleType_RULE_TYPE_DENY:
	default:
		return rule, fmt.Errorf("type %s is not known to this agent", r.GetType())
	}
	if rule.name = r.GetDnsName(); rule.name == "" {
		if rule.to, err = netip.ParsePrefix(r.GetCidrSelector()); err != nil {
			return rule, err
		}
		if !rule.to.Addr().Is4() {
			return rule, fmt.Errorf("%s is not IPv4", rule.to)
		}
	}
	protocols := map[egressv1.Protocol]pipeline.Protocol{
		egressv1.Protocol_PROTOCOL_TCP: pipeline.TCP, egressv1.Protocol_PROTOCOL_UDP: pipeline.UDP, egressv1.Protocol_PROTOCOL_SCTP: pipeline.SCTP,
	}
	for _, p := range r.GetPorts() {
		protocol, known := protocols[p.GetProtocol()]
		if !known {
			return rule, fmt.Errorf("protocol %s is not known to this agent", p.GetProtocol())
		}
		ports := pipeline.FirewallPorts{Protocol: protocol, First: uint16(p.GetPort()), Last: uint16(max(p.GetPort(), p.GetEndPort()))} //nolint:gosec // the next line
		if p.GetPort() > 65535 || p.GetEndPort() > 65535 || ports.First == 0 && ports.Last > 0 {
			return rule, fmt.Errorf("ports %d to %d do not exist", p.GetPort(), p.GetEndPort())
		}
		rule.ports = append(rule.ports, ports)
	}
	return rule, nil
}
