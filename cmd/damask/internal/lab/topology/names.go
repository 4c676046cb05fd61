package topology

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/cmd/damask/internal/syntax"
)

// name checks a name and, where seen is given, that it comes once.
func (c *checker) name(path, name string, rule syntax.Rule, seen map[string]bool) {
	switch {
	case name == "":
		c.Addf(path, "required")
	case !rule.Fits(name):
		c.Addf(path, "%q is not %s", name, rule.Words())
	case seen[name]:
		c.Addf(path, "%q comes twice", name)
	case seen != nil:
		seen[name] = true
	}
}

func (c *checker) labels(path string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if reason := syntax.CheckLabel(key, labels[key]); reason != "" {
			c.Addf(path+"."+key, "%s", reason)
		}
	}
}

// maxContainerPorts is the registry's limit.
const maxContainerPorts = 1000

// containerPorts lets a name come twice, as Kubernetes does for two containers.
func (c *checker) containerPorts(path string, ports []ContainerPort) {
	if len(ports) > maxContainerPorts {
		c.Addf(path, "%d ports: at most %d", len(ports), maxContainerPorts)
		return
	}
	for i, p := range ports {
		at := fmt.Sprintf("%s[%d]", path, i)
		if p.Name != "" {
			c.name(at+".name", p.Name, syntax.PortName, nil)
		}
		if p.ContainerPort < 1 || p.ContainerPort > 65535 {
			c.Addf(at+".containerPort", "%d: from 1 to 65535", p.ContainerPort)
		}
		if p.Protocol != "" && !slices.Contains([]string{"TCP", "UDP", "SCTP"}, p.Protocol) {
			c.Addf(at+".protocol", "%q is not one of TCP, UDP, SCTP", p.Protocol)
		}
		if p.HostPort > 65535 {
			c.Addf(at+".hostPort", "%d: from 1 to 65535", p.HostPort)
		}
		switch {
		case p.HostIP.IsValid() && p.HostPort == 0:
			c.Addf(at+".hostIP", "%s: there is no hostPort that could be on it", p.HostIP)
		case p.HostIP.IsValid() && !p.HostIP.Is4():
			c.Addf(at+".hostIP", "%s is not an IPv4 address", p.HostIP)
		}
	}
}

// hostPort is a port of a node. Whether addresses of it overlap the node says.
type hostPort struct {
	node, protocol string
	port           uint32
	address        netip.Addr
}

// hostPorts wants each port of a node to lead to one pod.
func (c *checker) hostPorts(path string, pod Pod, seen map[hostPort]string) {
	for i, p := range pod.Ports {
		if p.HostPort == 0 {
			continue
		}
		at := hostPort{pod.Node, cmp.Or(p.Protocol, "TCP"), p.HostPort, p.HostIP}
		if other, taken := seen[at]; taken {
			c.Addf(fmt.Sprintf("%s[%d].hostPort", path, i), "port %d of node %s leads to pod %s already", p.HostPort, pod.Node, other)
		}
		seen[at] = pod.Namespace + "/" + pod.Name
	}
}
