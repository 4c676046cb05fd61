package topology

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/cmd/damask/internal/servicefile"
)

// The range of node ports, that of Kubernetes, which the lab's servicelb has too.
const (
	minNodePort = 30000
	maxNodePort = 32767
)

// engines are what can program services.
func engines() []string { return []string{"iptables", "nftables"} }

// engine checks a node's own choice, which it need not make.
func (c *checker) engine(path, name string) {
	if name != "" && !slices.Contains(engines(), name) {
		c.Addf(path, "%q is neither iptables nor nftables", name)
	}
}

// services checks each service and slice by itself, and then what they want of the
// cluster: servicelb would refuse it, but only when the lab is half up.
func (c *checker) services() {
	if c.t.ServiceEngine == "" {
		c.Addf("serviceEngine", "required")
	}
	c.engine("serviceEngine", c.t.ServiceEngine)
	c.t.Document.Check(c.Report)
	takes := taken{}
	for i := range c.t.Services {
		s, path := &c.t.Services[i], fmt.Sprintf("services[%d]", i)
		c.inNetwork(path+".clusterIP", s.ClusterIP, c.t.ServiceNetwork, "serviceNetwork", true)
		takes.take(c, path+".clusterIP", s.ClusterIP, s)
		c.inNetwork(path+".loadBalancerIP", s.LoadBalancerIP, c.t.LoadBalancerIPs, "loadBalancerIPs", false)
		takes.take(c, path+".loadBalancerIP", s.LoadBalancerIP, s)
		for j, p := range s.Ports {
			c.nodePort(fmt.Sprintf("%s.ports[%d].nodePort", path, j), p.NodePort, takes, s)
		}
		c.nodePort(path+".healthCheckNodePort", s.HealthCheckNodePort, takes, s)
	}
}

// inNetwork checks that an address, if it is one, is of a network; of the service
// network the first and the last address are nobody's.
func (c *checker) inNetwork(path, text string, network netip.Prefix, name string, hosts bool) {
	addr, err := netip.ParseAddr(text)
	if err != nil || !addr.Is4() || !network.IsValid() || !network.Addr().Is4() {
		return // none is wished, or what is wrong is said already
	}
	first, last := hostRange(network)
	if !network.Contains(addr) || hosts && (addr.Less(first) || last.Less(addr)) {
		c.Addf(path, "%s is not an address of %s %s", addr, name, network)
	}
}

// nodePort checks a wished port of the nodes. No two services share one, whatever
// their protocols: servicelb hands out numbers.
func (c *checker) nodePort(path string, port uint32, takes taken, s *servicefile.Service) {
	if port == 0 {
		return
	}
	if port < minNodePort || port > maxNodePort {
		c.Addf(path, "%d: from %d to %d", port, minNodePort, maxNodePort)
	}
	takes.take(c, path, fmt.Sprintf("node port %d", port), s)
}

// taken tells which service has what.
type taken map[string]*servicefile.Service

func (t taken) take(c *checker, path, what string, s *servicefile.Service) {
	if what == "" || what == "None" {
		return
	}
	if other := t[what]; other != nil && other != s {
		c.Addf(path, "%s belongs to service %s already", what, other.FullName())
		return
	}
	t[what] = s
}
