package serviceview

import (
	"fmt"
	"net/netip"
	"time"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// Compute answers what a node needs to know of a service, whose slices are
// given in any order. An error means that the service itself cannot be read, so
// that the last view should stay in force; an endpoint that cannot be read is
// left out.
func Compute(s *servicelbv1.Service, slices []*servicelbv1.EndpointSlice, node Node) (View, error) {
	v, err := header(s)
	if err != nil {
		return View{}, fmt.Errorf("service %s/%s: %w", s.GetNamespace(), s.GetName(), err)
	}
	if !Programs(s) {
		return v, nil
	}
	ready := make(map[netip.Addr]bool)
	_, v.Idled = s.GetAnnotations()[IdledAt]
	for _, p := range s.GetPorts() {
		endpoints := gather(s, p, slices, node)
		for _, e := range endpoints {
			if e.ready && e.Local {
				ready[e.Address.Addr()] = true
			}
		}
		port := v.port(s, p, endpoints, node)
		v.Ports = append(v.Ports, port)
		v.Idled = v.Idled && !port.Any
	}
	v.LocalReady = len(ready)
	return v, nil
}

// header is the view without its ports.
func header(s *servicelbv1.Service) (View, error) {
	v := View{
		Namespace: s.GetNamespace(), Name: s.GetName(),
		InternalLocal:       s.GetInternalTrafficPolicy() == servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL,
		ExternalLocal:       s.GetExternalTrafficPolicy() == servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL,
		HealthCheckNodePort: uint16(s.GetHealthCheckNodePort()), //nolint:gosec // a stored port fits
	}
	if s.GetSessionAffinity() == servicelbv1.SessionAffinity_SESSION_AFFINITY_CLIENT_IP {
		v.Affinity = time.Duration(s.GetSessionAffinityTimeoutSeconds()) * time.Second
	}
	if !Programs(s) {
		return v, nil
	}
	var err error
	if v.ClusterIPs, err = addresses(s.GetClusterIps()); err != nil {
		return v, err
	}
	if v.ExternalIPs, err = addresses(s.GetExternalIps()); err != nil {
		return v, err
	}
	if v.LoadBalancerIPs, err = addresses(s.GetLoadBalancerIps()); err != nil {
		return v, err
	}
	for _, text := range s.GetLoadBalancerSourceRanges() {
		prefix, err := netip.ParsePrefix(text)
		if err != nil {
			return v, err
		}
		v.SourceRanges = append(v.SourceRanges, prefix)
	}
	return v, nil
}

func addresses(texts []string) ([]netip.Addr, error) {
	var list []netip.Addr
	for _, text := range texts {
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return nil, err
		}
		list = append(list, addr)
	}
	return list, nil
}

// port chooses among a port's endpoints.
func (v *View) port(s *servicelbv1.Service, p *servicelbv1.ServicePort, endpoints []endpoint, node Node) Port {
	view := Port{
		Name: p.GetName(), Protocol: p.GetProtocol(),
		Port: uint16(p.GetPort()), NodePort: uint16(p.GetNodePort()), //nolint:gosec // stored ports fit
	}
	outside := v.Outside(view)
	for _, e := range endpoints {
		view.Any = view.Any || e.usable()
	}
	anywhere := best(endpoints, nearest(s.GetTrafficDistribution(), endpoints, node))
	here := best(endpoints, func(e endpoint) bool { return e.Local }, func(e endpoint) bool { return e.Local })
	view.Internal = anywhere
	if v.InternalLocal {
		view.Internal = here
	}
	if outside {
		view.Anywhere, view.External = anywhere, anywhere
		if v.ExternalLocal {
			view.External = here
		}
	}
	return view
}

// best answers the ready endpoints that pass the first test. If none does, it
// answers those that still serve while they terminate: where they are does not
// matter then, unless there is a second test (KEP-1669).
func best(endpoints []endpoint, pass func(endpoint) bool, draining ...func(endpoint) bool) []Backend {
	var chosen []Backend
	for _, e := range endpoints {
		if e.ready && pass(e) {
			chosen = append(chosen, e.Backend)
		}
	}
	if len(chosen) > 0 {
		return chosen
	}
	for _, e := range endpoints {
		if e.ready || !e.draining || (len(draining) > 0 && !draining[0](e)) {
			continue
		}
		b := e.Backend
		b.Draining = true
		chosen = append(chosen, b)
	}
	return chosen
}
