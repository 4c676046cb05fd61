package serviceview

import (
	"cmp"
	"net/netip"
	"slices"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// endpoint is a backend that might be used, with what decides whether it is.
type endpoint struct {
	Backend
	ready    bool
	draining bool // it terminates, and still serves
	zone     string
	forZones []string
	forNodes []string
}

// usable says whether connections may go there at all.
func (e endpoint) usable() bool { return e.ready || e.draining }

// rank orders reports of one endpoint: the best one is true. While an endpoint
// moves from one slice to another it is in both.
func (e endpoint) rank() int {
	switch {
	case e.ready && e.Local:
		return 3
	case e.ready:
		return 2
	case e.draining:
		return 1
	}
	return 0
}

// gather answers the endpoints behind a service's port, each once, in order of
// address.
func gather(s *servicelbv1.Service, p *servicelbv1.ServicePort, list []*servicelbv1.EndpointSlice, node Node) []endpoint {
	found := make(map[netip.AddrPort]endpoint)
	for _, slice := range list {
		for _, port := range slice.GetPorts() {
			if port.GetName() != p.GetName() || port.GetProtocol() != p.GetProtocol() || port.GetPort() == 0 || port.GetPort() > 65535 {
				continue
			}
			for _, reported := range slice.GetEndpoints() {
				e, ok := read(reported, uint16(port.GetPort()), s.GetPublishNotReadyAddresses(), node)
				if !ok {
					continue
				}
				if other, twice := found[e.Address]; !twice || e.better(other) {
					found[e.Address] = e
				}
			}
		}
	}
	endpoints := make([]endpoint, 0, len(found))
	for _, e := range found {
		endpoints = append(endpoints, e)
	}
	slices.SortFunc(endpoints, func(a, b endpoint) int { return a.Address.Compare(b.Address) })
	return endpoints
}

// better says which of two reports of one address counts, so that the order of
// slices does not matter.
func (e endpoint) better(other endpoint) bool {
	return cmp.Or(
		cmp.Compare(e.rank(), other.rank()),
		cmp.Compare(e.Node, other.Node),
		cmp.Compare(e.zone, other.zone),
		slices.Compare(e.forNodes, other.forNodes),
		slices.Compare(e.forZones, other.forZones),
	) > 0
}

// read reads one endpoint; false if it has no address that can be used.
func read(reported *servicelbv1.Endpoint, port uint16, publish bool, node Node) (endpoint, bool) {
	if len(reported.GetAddresses()) == 0 {
		return endpoint{}, false
	}
	addr, err := netip.ParseAddr(reported.GetAddresses()[0])
	if err != nil || !addr.Is4() {
		return endpoint{}, false
	}
	conditions := reported.GetConditions()
	ready := conditions == nil || conditions.Ready == nil || conditions.GetReady()
	serving := ready
	if conditions != nil && conditions.Serving != nil {
		serving = conditions.GetServing()
	}
	return endpoint{
		Backend: Backend{
			Address: netip.AddrPortFrom(addr, port), Node: reported.GetNodeName(),
			Local: reported.GetNodeName() != "" && reported.GetNodeName() == node.Name,
		},
		ready: ready || publish, draining: serving && conditions.GetTerminating(),
		zone:     reported.GetZone(),
		forZones: reported.GetHints().GetForZones(), forNodes: reported.GetHints().GetForNodes(),
	}, true
}
