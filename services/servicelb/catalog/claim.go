package catalog

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/internal/token"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/pool"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

// claim is something that one service alone has.
type claim struct {
	kind   kind
	number uint32
}

func (c claim) key() string    { return claimKey(c.kind, c.number) }
func (c claim) String() string { return c.kind.text(c.number) }

// listed is a claim with the first field that names it.
type listed struct {
	claim
	field string
}

// claimsOf answers what a service has, each claim once: two ports that differ
// in their protocol alone may share a node port.
func claimsOf(s *servicelbv1.Service) []listed {
	var list []listed
	seen := map[claim]bool{}
	add := func(k kind, number uint32, field string) {
		c := claim{k, number}
		if !seen[c] {
			seen[c] = true
			list = append(list, listed{c, field})
		}
	}
	if !spec.Headless(s) {
		for i, text := range s.GetClusterIps() {
			if n, ok := clusterIPs.parse(text); ok {
				add(clusterIPs, n, fmt.Sprintf("service.cluster_ips[%d]", i))
			}
		}
	}
	for i, p := range s.GetPorts() {
		if p.GetNodePort() != 0 {
			add(nodePorts, p.GetNodePort(), fmt.Sprintf("service.ports[%d].node_port", i))
		}
	}
	if s.GetHealthCheckNodePort() != 0 {
		add(nodePorts, s.GetHealthCheckNodePort(), "service.health_check_node_port")
	}
	for i, text := range s.GetLoadBalancerIps() {
		if n, ok := loadBalancerIPs.parse(text); ok {
			add(loadBalancerIPs, n, fmt.Sprintf("service.load_balancer_ips[%d]", i))
		}
	}
	return list
}

// parse reads what text wrote.
func (k kind) parse(text string) (uint32, bool) {
	if k == nodePorts {
		n, err := strconv.ParseUint(text, 10, 16)
		return uint32(n), err == nil
	}
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() {
		return 0, false
	}
	return pool.Number(addr), true
}

// decodeName answers the only name of a key.
func decodeName(key string) (string, bool) {
	_, rest, found := strings.Cut(key, ".")
	if !found || strings.Contains(rest, ".") {
		return "", false
	}
	name, err := token.Decode(rest)
	return name, err == nil
}
