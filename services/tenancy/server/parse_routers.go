package server

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

const (
	maxSources = 64
	// widestSource keeps a slip of the hand from allowing the whole world.
	widestSource = 8
)

// parseEgressRouters reads which networks a namespace's egress routers may have
// addresses of, in order of address.
func parseEgressRouters(r *tenancyv1.SetNetNamespaceEgressRoutersRequest) ([]string, error) {
	var v rpcerr.Violations
	checkNamespace(&v, "name", r.GetName())
	if len(r.GetSources()) > maxSources {
		v.Addf("sources", "%d networks, at most %d are allowed", len(r.GetSources()), maxSources)
	}
	var networks []netip.Prefix
	for i, text := range r.GetSources() {
		field := fmt.Sprintf("sources[%d]", i)
		switch network, err := netip.ParsePrefix(text); {
		case err != nil || !network.Addr().Is4():
			v.Addf(field, "%q is not an IPv4 network", text)
		case network != network.Masked():
			v.Addf(field, "%s has host bits set; did you mean %s?", network, network.Masked())
		case network.Bits() < widestSource:
			v.Addf(field, "%s is wider than /%d", network, widestSource)
		case slices.Contains(networks, network):
			v.Addf(field, "%s is given twice", network)
		default:
			networks = append(networks, network)
		}
	}
	slices.SortFunc(networks, netip.Prefix.Compare)
	sources := make([]string, 0, len(networks))
	for _, network := range networks {
		sources = append(sources, network.String())
	}
	return sources, v.Err(Domain)
}
