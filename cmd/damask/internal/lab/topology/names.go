package topology

import (
	"fmt"
	"maps"
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
	}
}
