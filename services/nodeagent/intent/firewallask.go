package intent

import (
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// FirewallKnown says whether a namespace's firewall is in force, or known to be none.
func (s *State) FirewallKnown(namespace string) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.firewall(namespace) != pipeline.UnknownFirewall
}

// MayLeave says whether a namespace's firewall lets packets to an address and port out:
// the first rule that matches decides. Of a namespace whose firewall is not known nothing may.
func (s *State) MayLeave(namespace string, to netip.AddrPort, protocol pipeline.Protocol) bool {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.firewalls.followed {
		return true
	}
	f := s.firewalls.namespaces[namespace]
	if f == nil || !f.known {
		return false
	}
	for _, r := range f.inForce {
		if s.reaches(r, to.Addr()) && r.has(protocol, to.Port()) {
			return r.allow
		}
	}
	return true
}

func (s *State) reaches(r firewallRule, to netip.Addr) bool {
	if r.name == "" {
		return r.to.Contains(to)
	}
	_, found := slices.BinarySearchFunc(s.firewalls.names[r.name], to, func(p netip.Prefix, a netip.Addr) int { return p.Addr().Compare(a) })
	return found
}

func (r firewallRule) has(protocol pipeline.Protocol, port uint16) bool {
	return len(r.ports) == 0 || slices.ContainsFunc(r.ports, func(p pipeline.FirewallPorts) bool {
		return p.Protocol == protocol && (p.First == 0 && p.Last == 0 || p.First <= port && port <= p.Last)
	})
}

// Judged is the pods of a namespace that is here, and whose firewall judges them.
type Judged struct {
	Namespace string
	// Number is the firewall's, pipeline.NoFirewall or pipeline.UnknownFirewall.
	Number uint32
	// Rules is another value when the rules, or the addresses of names in them, are others.
	Rules any
	// Pods are the addresses of those that leave as their node does.
	Pods []netip.Addr
	// Moved are those of the others: they have egress IPs, or it is not known yet that they
	// have none.
	Moved []netip.Addr
}

// Judged answers the namespaces of all pods.
func (s *State) Judged() []Judged {
	s.mu.RLock()
	defer s.mu.RUnlock()
	all := map[string]*Judged{}
	for _, pod := range s.pods {
		j := all[pod.Namespace]
		if j == nil {
			j = &Judged{Namespace: pod.Namespace, Number: s.firewall(pod.Namespace)}
			if f := s.firewalls.namespaces[pod.Namespace]; f != nil {
				j.Rules = f.compiled
			}
			all[pod.Namespace] = j
		}
		if way, decided := s.way(pod); s.egress.followed && (!decided || way != nil) {
			j.Moved = append(j.Moved, pod.IP)
		} else {
			j.Pods = append(j.Pods, pod.IP)
		}
	}
	list := make([]Judged, 0, len(all))
	for _, j := range all {
		list = append(list, *j)
	}
	return list
}
