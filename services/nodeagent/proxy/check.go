package proxy

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// maxAffinity is the longest affinity that Kubernetes knows: a day.
const maxAffinity = 24 * time.Hour

// Check answers one error that names every problem of a service, nil if there is none.
// Engines check what they are given, so that no name or address reaches a rule that
// could mean something else there.
func (s Service) Check() error {
	var problems []string
	add := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	for what, name := range map[string]string{"namespace": s.Namespace, "name": s.Name} {
		if !isName(name) || name == "" {
			add("%s %q is no DNS label", what, name)
		}
	}
	if !isName(s.PortName) {
		add("port name %q is no DNS label", s.PortName)
	}
	if !slices.Contains([]Protocol{TCP, UDP, SCTP}, s.Protocol) {
		add("protocol %q is not TCP, UDP or SCTP", s.Protocol)
	}
	if s.Port == 0 {
		add("port is missing")
	}
	if s.Affinity < 0 || s.Affinity > maxAffinity || s.Affinity%time.Second != 0 {
		add("affinity %v is not whole seconds up to a day", s.Affinity)
	}
	for _, a := range slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs) {
		if !usable(a) {
			add("address %v cannot be a service's", a)
		}
	}
	for _, b := range slices.Concat(s.ClusterBackends, s.OwnBackends, s.ExternalBackends) {
		if !usable(b.Addr) || b.Port == 0 {
			add("backend %v port %d cannot be reached", b.Addr, b.Port)
		}
	}
	for _, p := range s.SourceRanges {
		if !p.IsValid() || p != p.Masked() {
			add("source range %v is no network", p)
		}
	}
	if len(problems) == 0 {
		return nil
	}
	slices.Sort(problems)
	return fmt.Errorf("service %v: %s", s.Key, strings.Join(slices.Compact(problems), "; "))
}

// usable says that an address can be one of a service or a backend. IPv4 addresses in
// IPv6 clothes are refused: they would not compare with what the kernel prints.
func usable(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLoopback() && !a.Is4In6() && a.Zone() == ""
}

// isName says that a text holds only what names in Kubernetes hold.
func isName(s string) bool {
	const maxLength = 253
	return len(s) <= maxLength && strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789-.") == ""
}

// claim is what only one service port may have.
type claim struct {
	addr     netip.Addr // zero: a node port
	protocol Protocol
	port     uint16
}

// Check answers one error that names every problem of every service, every key that is
// not its service's, and every two services that claim the same.
func (s State) Check() error {
	var problems []error
	owners := map[claim]Key{}
	for key, service := range s {
		if key != service.Key {
			problems = append(problems, fmt.Errorf("service %v (%s) is filed as %v (%s)", service.Key, service.Protocol, key, key.Protocol))
		}
		if err := service.Check(); err != nil {
			problems = append(problems, err)
		}
		for _, c := range service.claims() {
			other, taken := owners[c]
			if !taken {
				owners[c] = key
				continue
			}
			first, second := key, other
			if first.Compare(second) > 0 {
				first, second = second, first
			}
			problems = append(problems, fmt.Errorf("services %v and %v both claim %v", first, second, c))
		}
	}
	slices.SortFunc(problems, func(a, b error) int { return strings.Compare(a.Error(), b.Error()) })
	return errors.Join(problems...)
}

// claims lists each claim of a service once.
func (s Service) claims() []claim {
	var all []claim
	for _, a := range slices.Concat(s.ClusterIPs, s.ExternalIPs, s.LoadBalancerIPs) {
		if c := (claim{a, s.Protocol, s.Port}); !slices.Contains(all, c) {
			all = append(all, c)
		}
	}
	if s.NodePort != 0 {
		all = append(all, claim{protocol: s.Protocol, port: s.NodePort})
	}
	return all
}

// String prints a claim for an error.
func (c claim) String() string {
	if !c.addr.IsValid() {
		return fmt.Sprintf("node port %d/%s", c.port, c.protocol)
	}
	return fmt.Sprintf("%v/%s", netip.AddrPortFrom(c.addr, c.port), c.protocol)
}
