package spec

import (
	"fmt"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// Limits that the proto files state.
const (
	maxPorts         = 100
	maxAddresses     = 100
	maxSourceRanges  = 1000
	maxAffinity      = 86400 // seconds
	maxMetadataBytes = 64 << 10
)

// CheckService reports everything that is wrong with a service that has its
// defaults.
func CheckService(s *servicelbv1.Service, v *rpcerr.Violations) {
	report(v, "service.namespace", dnsLabel(s.GetNamespace()))
	report(v, "service.name", serviceName(s.GetName()))
	checkEnums(s, v)
	checkLabels(v, "service.selector", s.GetSelector())
	checkLabels(v, "service.labels", s.GetLabels())
	checkMetadata(s, v)
	checkPorts(s, v)
	checkClusterIPs(s, v)
	checkExternal(s, v)
	checkLoadBalancer(s, v)
	if seconds := s.GetSessionAffinityTimeoutSeconds(); seconds > maxAffinity {
		v.Addf("service.session_affinity_timeout_seconds", "%d is not within 1 to %d", seconds, maxAffinity)
	}
}

func report(v *rpcerr.Violations, field, problem string) {
	if problem != "" {
		v.Addf(field, "%s", problem)
	}
}

// checkEnums refuses values of a later version of the API.
func checkEnums(s *servicelbv1.Service, v *rpcerr.Violations) {
	unknown := func(field string, value int32, names map[int32]string) {
		if _, known := names[value]; !known {
			v.Addf("service."+field, "%d is not known", value)
		}
	}
	unknown("type", int32(s.GetType()), servicelbv1.ServiceType_name)
	unknown("session_affinity", int32(s.GetSessionAffinity()), servicelbv1.SessionAffinity_name)
	unknown("internal_traffic_policy", int32(s.GetInternalTrafficPolicy()), servicelbv1.TrafficPolicy_name)
	unknown("external_traffic_policy", int32(s.GetExternalTrafficPolicy()), servicelbv1.TrafficPolicy_name)
	unknown("traffic_distribution", int32(s.GetTrafficDistribution()), servicelbv1.TrafficDistribution_name)
	for i, p := range s.GetPorts() {
		unknown(fmt.Sprintf("ports[%d].protocol", i), int32(p.GetProtocol()), servicelbv1.Protocol_name)
	}
}

func checkLabels(v *rpcerr.Violations, field string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		report(v, field, labelKey(key))
		report(v, fmt.Sprintf("%s[%s]", field, key), labelValue(labels[key]))
	}
}

func checkMetadata(s *servicelbv1.Service, v *rpcerr.Violations) {
	size := 0
	for _, m := range []map[string]string{s.GetLabels(), s.GetAnnotations(), s.GetSelector()} {
		for key, value := range m {
			size += len(key) + len(value)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(s.GetAnnotations())) {
		report(v, "service.annotations", labelKey(key))
	}
	if size > maxMetadataBytes {
		v.Addf("service.annotations", "%d bytes with labels and selector, at most %d are allowed", size, maxMetadataBytes)
	}
}

func checkPorts(s *servicelbv1.Service, v *rpcerr.Violations) {
	ports := s.GetPorts()
	if len(ports) == 0 && s.GetType() != externalName && !Headless(s) {
		v.Addf("service.ports", "at least one is required")
	}
	if len(ports) > maxPorts {
		v.Addf("service.ports", "%d ports, at most %d are allowed", len(ports), maxPorts)
		return
	}
	type number struct {
		protocol servicelbv1.Protocol
		port     uint32
	}
	names, numbers, nodePorts := map[string]int{}, map[number]int{}, map[number]int{}
	for i, p := range ports {
		field := fmt.Sprintf("service.ports[%d]", i)
		switch {
		case p.GetName() != "":
			report(v, field+".name", dnsLabel(p.GetName()))
			once(v, field+".name", names, p.GetName(), i)
		case len(ports) > 1:
			v.Addf(field+".name", "is required when there are several ports")
		}
		report(v, field+".port", portNumber(p.GetPort()))
		once(v, field+".port", numbers, number{p.GetProtocol(), p.GetPort()}, i)
		report(v, field+".target_port", targetPort(p.GetTargetPort()))
		if p.GetAppProtocol() != "" {
			report(v, field+".app_protocol", labelKey(p.GetAppProtocol()))
		}
		if p.GetNodePort() == 0 {
			continue
		}
		report(v, field+".node_port", portNumber(p.GetNodePort()))
		if !MayHaveNodePorts(s) {
			v.Addf(field+".node_port", "is only for types NodePort and LoadBalancer")
		}
		once(v, field+".node_port", nodePorts, number{p.GetProtocol(), p.GetNodePort()}, i)
	}
}

// once reports a key that an earlier port has.
func once[K comparable](v *rpcerr.Violations, field string, seen map[K]int, key K, i int) {
	if first, twice := seen[key]; twice {
		v.Addf(field, "is that of ports[%d] already", first)
		return
	}
	seen[key] = i
}

func checkClusterIPs(s *servicelbv1.Service, v *rpcerr.Violations) {
	ips := s.GetClusterIps()
	if len(ips) > 0 && s.GetType() == externalName {
		v.Addf("service.cluster_ips", "must be empty for type ExternalName")
		return
	}
	for i, ip := range ips {
		field := fmt.Sprintf("service.cluster_ips[%d]", i)
		switch {
		case ip == serviceview.Headless && len(ips) > 1:
			v.Addf(field, "%q must be alone", ip)
		case ip == serviceview.Headless && s.GetType() != clusterIP:
			v.Addf(field, "%q is only for type ClusterIP", ip)
		case ip != serviceview.Headless:
			report(v, field, address(ip))
		}
	}
	if len(ips) > 1 {
		v.Addf("service.cluster_ips", "%d addresses: one is allowed, IPv4 is the only family today", len(ips))
	}
}

func checkExternal(s *servicelbv1.Service, v *rpcerr.Violations) {
	checkAddresses(v, "service.external_ips", s.GetExternalIps())
	if s.GetExternalTrafficPolicy() != servicelbv1.TrafficPolicy_TRAFFIC_POLICY_UNSPECIFIED && !outside(s) {
		v.Addf("service.external_traffic_policy", "is only for services that are reached from outside: types NodePort and LoadBalancer, or with external_ips")
	}
	if s.GetType() == externalName {
		report(v, "service.external_name", dnsSubdomain(s.GetExternalName()))
		return
	}
	if s.GetExternalName() != "" {
		v.Addf("service.external_name", "is only for type ExternalName")
	}
}

func checkLoadBalancer(s *servicelbv1.Service, v *rpcerr.Violations) {
	only := func(field string, given bool) {
		if given && s.GetType() != loadBalancer {
			v.Addf("service."+field, "is only for type LoadBalancer")
		}
	}
	only("load_balancer_ips", len(s.GetLoadBalancerIps()) > 0)
	only("load_balancer_source_ranges", len(s.GetLoadBalancerSourceRanges()) > 0)
	only("allocate_load_balancer_node_ports", s.AllocateLoadBalancerNodePorts != nil)
	only("load_balancer_by_others", s.GetLoadBalancerByOthers())
	checkAddresses(v, "service.load_balancer_ips", s.GetLoadBalancerIps())
	ranges := s.GetLoadBalancerSourceRanges()
	if len(ranges) > maxSourceRanges {
		v.Addf("service.load_balancer_source_ranges", "%d ranges, at most %d are allowed", len(ranges), maxSourceRanges)
		return
	}
	for i, text := range ranges {
		report(v, fmt.Sprintf("service.load_balancer_source_ranges[%d]", i), network(text))
	}
	number := s.GetHealthCheckNodePort()
	if number == 0 {
		return
	}
	const field = "service.health_check_node_port"
	report(v, field, portNumber(number))
	if !NeedsHealthCheck(s) {
		v.Addf(field, "is only for type LoadBalancer with external_traffic_policy Local")
	}
	for i, p := range s.GetPorts() {
		if p.GetNodePort() == number {
			v.Addf(field, "%d is the node port of ports[%d] already", number, i)
		}
	}
}

func checkAddresses(v *rpcerr.Violations, field string, list []string) {
	if len(list) > maxAddresses {
		v.Addf(field, "%d addresses, at most %d are allowed", len(list), maxAddresses)
		return
	}
	for i, text := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		report(v, at, address(text))
		if slices.Contains(list[:i], text) {
			v.Addf(at, "%q is there twice", text)
		}
	}
}
