package servicefile

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/damask-sdn/damask/cmd/damask/internal/syntax"
	"github.com/damask-sdn/damask/internal/configfile"
)

const (
	// headless is the cluster IP of a service that wants none.
	headless = "None"
	// maxAffinity is the longest affinity, in seconds: a day, as in Kubernetes.
	maxAffinity = 86400
)

func (s *Service) check(r *configfile.Report) {
	name(r, "namespace", s.Namespace, syntax.Label)
	name(r, "name", s.Name, syntax.Service)
	word(r, "type", s.Type, serviceTypes)
	word(r, "sessionAffinity", s.SessionAffinity, affinities)
	word(r, "internalTrafficPolicy", s.InternalTrafficPolicy, trafficPolicies)
	word(r, "externalTrafficPolicy", s.ExternalTrafficPolicy, trafficPolicies)
	word(r, "trafficDistribution", s.TrafficDistribution, distributions)
	labels(r, "selector", s.Selector)
	labels(r, "labels", s.Labels)
	for _, key := range slices.Sorted(maps.Keys(s.Annotations)) {
		if reason := syntax.CheckKey(key); reason != "" {
			r.Addf("annotations."+key, "%s", reason)
		}
	}
	s.checkPorts(r)
	s.checkAddresses(r)
	s.checkOutside(r)
	if seconds := s.SessionAffinityConfig.ClientIP.TimeoutSeconds; seconds != nil {
		const field = "sessionAffinityConfig.clientIP.timeoutSeconds"
		if *seconds < 1 || *seconds > maxAffinity {
			r.Addf(field, "%d: from 1 to %d", *seconds, maxAffinity)
		}
		if s.SessionAffinity != "ClientIP" {
			r.Addf(field, "only with sessionAffinity ClientIP")
		}
	}
}

func (s *Service) isExternalName() bool { return s.Type == "ExternalName" }

// hasNodePorts tells whether its ports may have node ports.
func (s *Service) hasNodePorts() bool { return s.Type == "NodePort" || s.Type == "LoadBalancer" }

func (s *Service) checkPorts(r *configfile.Report) {
	if len(s.Ports) == 0 && !s.isExternalName() && s.ClusterIP != headless {
		r.Addf("ports", "at least one is needed")
	}
	names, numbers, nodePorts := map[string]bool{}, map[string]bool{}, map[string]bool{}
	for i, p := range s.Ports {
		at := r.In(fmt.Sprintf("ports[%d]", i))
		switch {
		case p.Name != "":
			name(at, "name", p.Name, syntax.Label)
			once(at, "name", p.Name, names)
		case len(s.Ports) > 1:
			at.Addf("name", "required when there are several ports")
		}
		word(at, "protocol", p.Protocol, protocols)
		number(at, "port", p.Port)
		once(at, "port", fmt.Sprintf("%d/%s", p.Port, protocolName(p.Protocol)), numbers)
		checkTarget(at, p.TargetPort)
		if p.AppProtocol != "" {
			if reason := syntax.CheckKey(p.AppProtocol); reason != "" {
				at.Addf("appProtocol", "%s", reason)
			}
		}
		if p.NodePort == 0 {
			continue
		}
		number(at, "nodePort", p.NodePort)
		once(at, "nodePort", fmt.Sprintf("%d/%s", p.NodePort, protocolName(p.Protocol)), nodePorts)
		if !s.hasNodePorts() {
			at.Addf("nodePort", "only for types NodePort and LoadBalancer")
		}
	}
}

func checkTarget(r *configfile.Report, target NumberOrName) {
	text := string(target)
	switch n, err := strconv.ParseUint(text, 10, 32); {
	case text == "":
	case err == nil:
		number(r, "targetPort", uint32(n))
	case !syntax.PortName.Fits(text):
		r.Addf("targetPort", "%q is neither a port number nor %s", text, syntax.PortName.Words())
	}
}

func (s *Service) checkAddresses(r *configfile.Report) {
	switch {
	case s.ClusterIP == "":
	case s.isExternalName():
		r.Addf("clusterIP", "not for type ExternalName")
	case s.ClusterIP == headless:
		if s.Type != "" && s.Type != "ClusterIP" {
			r.Addf("clusterIP", "None is only for type ClusterIP")
		}
	default:
		address(r, "clusterIP", s.ClusterIP)
	}
	addresses(r, "externalIPs", s.ExternalIPs)
	if s.LoadBalancerIP != "" {
		address(r, "loadBalancerIP", s.LoadBalancerIP)
	}
	for i, text := range s.LoadBalancerSourceRanges {
		prefix, err := netip.ParsePrefix(text)
		if err != nil || !prefix.Addr().Is4() || prefix != prefix.Masked() || prefix.String() != text {
			r.Addf(fmt.Sprintf("loadBalancerSourceRanges[%d]", i), "%q is not an IPv4 range such as 192.0.2.0/24", text)
		}
	}
}

// checkOutside checks what belongs to services that are reached from outside.
func (s *Service) checkOutside(r *configfile.Report) {
	for _, f := range []struct {
		field string
		given bool
	}{
		{"loadBalancerIP", s.LoadBalancerIP != ""}, {"loadBalancerSourceRanges", len(s.LoadBalancerSourceRanges) > 0},
		{"allocateLoadBalancerNodePorts", s.AllocateLoadBalancerNodePorts != nil},
	} {
		if f.given && s.Type != "LoadBalancer" {
			r.Addf(f.field, "only for type LoadBalancer")
		}
	}
	reached := s.hasNodePorts() || !s.isExternalName() && len(s.ExternalIPs) > 0
	if s.ExternalTrafficPolicy != "" && !reached {
		r.Addf("externalTrafficPolicy", "only for services that are reached from outside: types NodePort and LoadBalancer, or with externalIPs")
	}
	if s.HealthCheckNodePort != 0 {
		number(r, "healthCheckNodePort", s.HealthCheckNodePort)
		if s.Type != "LoadBalancer" || s.ExternalTrafficPolicy != "Local" {
			r.Addf("healthCheckNodePort", "only for type LoadBalancer with externalTrafficPolicy Local")
		}
	}
	switch {
	case s.isExternalName():
		name(r, "externalName", s.ExternalName, syntax.Subdomain)
	case s.ExternalName != "":
		r.Addf("externalName", "only for type ExternalName")
	}
}

func (s *EndpointSlice) check(r *configfile.Report) {
	name(r, "namespace", s.Namespace, syntax.Label)
	name(r, "name", s.Name, syntax.Subdomain)
	name(r, "serviceName", s.ServiceName, syntax.Service)
	if s.AddressType != "" && s.AddressType != "IPv4" {
		r.Addf("addressType", "%q: IPv4 is the only one today", s.AddressType)
	}
	names := map[string]bool{}
	for i, p := range s.Ports {
		at := r.In(fmt.Sprintf("ports[%d]", i))
		if p.Name != "" {
			name(at, "name", p.Name, syntax.Label)
		}
		once(at, "name", p.Name, names)
		word(at, "protocol", p.Protocol, protocols)
		number(at, "port", p.Port)
	}
	for i, e := range s.Endpoints {
		e.check(r.In(fmt.Sprintf("endpoints[%d]", i)))
	}
}

func (e *Endpoint) check(r *configfile.Report) {
	if len(e.Addresses) == 0 {
		r.Addf("addresses", "at least one is needed")
	}
	addresses(r, "addresses", e.Addresses)
	if e.Hostname != "" {
		name(r, "hostname", e.Hostname, syntax.Label)
	}
	if e.NodeName != "" {
		name(r, "nodeName", e.NodeName, syntax.Subdomain)
	}
	zone(r, "zone", e.Zone)
	for i, z := range e.Hints.ForZones {
		r.Required(fmt.Sprintf("hints.forZones[%d].name", i), z.Name)
		zone(r, fmt.Sprintf("hints.forZones[%d].name", i), z.Name)
	}
	for i, n := range e.Hints.ForNodes {
		name(r, fmt.Sprintf("hints.forNodes[%d].name", i), n.Name, syntax.Subdomain)
	}
}

func name(r *configfile.Report, field, text string, rule syntax.Rule) {
	switch {
	case text == "":
		r.Addf(field, "required")
	case !rule.Fits(text):
		r.Addf(field, "%q is not %s", text, rule.Words())
	}
}

func labels(r *configfile.Report, field string, all map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(all)) {
		if reason := syntax.CheckLabel(key, all[key]); reason != "" {
			r.Addf(field+"."+key, "%s", reason)
		}
	}
}

// zone checks a zone, which is the value of a label.
func zone(r *configfile.Report, field, text string) {
	if reason := syntax.CheckLabel("zone", text); reason != "" {
		r.Addf(field, "%s", reason)
	}
}

func number(r *configfile.Report, field string, port uint32) {
	if port < 1 || port > 65535 {
		r.Addf(field, "%d: from 1 to 65535", port)
	}
}

func once(r *configfile.Report, field, key string, seen map[string]bool) {
	if seen[key] {
		r.Addf(field, "%q comes twice", key)
	}
	seen[key] = true
}

// word checks a word of a list; empty is the default.
func word[E any](r *configfile.Report, field, text string, known map[string]E) {
	if _, ok := known[text]; !ok && text != "" {
		r.Addf(field, "%q is not one of %s", text, strings.Join(slices.Sorted(maps.Keys(known)), ", "))
	}
}

func addresses(r *configfile.Report, field string, all []string) {
	seen := map[string]bool{}
	for i, text := range all {
		at := fmt.Sprintf("%s[%d]", field, i)
		address(r, at, text)
		once(r, at, text, seen)
	}
}

// address checks an address that may be a service's or an endpoint's.
func address(r *configfile.Report, field, text string) {
	addr, err := netip.ParseAddr(text)
	switch {
	case err != nil || !addr.Is4():
		r.Addf(field, "%q is not an IPv4 address", text)
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast():
		r.Addf(field, "%s is a special address: unspecified, loopback, link-local or multicast", text)
	}
}
