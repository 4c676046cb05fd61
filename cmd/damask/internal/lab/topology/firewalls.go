package topology

import (
	"fmt"
	"net/netip"
)

// firewalls checks each firewall by itself, and that its namespace is one of the lab, which
// nobody would notice otherwise: the name of a namespace that does not exist judges nobody.
func (c *checker) firewalls() {
	for field, servers := range map[string][]netip.AddrPort{"dnsServers": c.t.DNSServers, "podDNSServers": c.t.PodDNSServers} {
		for i, server := range servers {
			if !server.Addr().Is4() || server.Port() == 0 {
				c.Addf(fmt.Sprintf("%s[%d]", field, i), "%s is not IPv4:PORT", server)
			}
		}
	}
	if len(c.t.PodDNSServers) == 0 {
		c.t.PodDNSServers = c.t.DNSServers
	}
	c.t.Firewalls.Check(c.Report)
	there := map[string]bool{}
	for _, n := range c.t.Namespaces {
		there[n.Name] = true
	}
	for _, p := range c.t.Pods {
		there[p.Namespace] = true
	}
	for i := range c.t.EgressFirewalls {
		f := &c.t.EgressFirewalls[i]
		if f.Namespace != "" && !there[f.Namespace] {
			c.Addf(fmt.Sprintf("egressFirewalls[%d].namespace", i), "neither a namespace nor a pod of this file is named so: %q", f.Namespace)
		}
	}
}
