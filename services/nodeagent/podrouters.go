package nodeagent

import "net/netip"

// EgressRouterSources are the networks of which a namespace's egress routers may have
// addresses, as tenancy says.
func (p *pods) EgressRouterSources(namespace string) []netip.Prefix {
	ns, exists := p.namespaces.Get(namespace)
	if !exists {
		return nil
	}
	var sources []netip.Prefix
	for _, text := range ns.GetEgressRouterSources() {
		// tenancy has checked them; what cannot be read allows nothing.
		if network, err := netip.ParsePrefix(text); err == nil {
			sources = append(sources, network)
		}
	}
	return sources
}
