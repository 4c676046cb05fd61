package servicefile

import (
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// The words of Kubernetes for the API's values; read-only.
var (
	serviceTypes = map[string]servicelbv1.ServiceType{
		"ClusterIP": servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP, "NodePort": servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT,
		"LoadBalancer": servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER, "ExternalName": servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME,
	}
	protocols = map[string]servicelbv1.Protocol{
		"TCP": servicelbv1.Protocol_PROTOCOL_TCP, "UDP": servicelbv1.Protocol_PROTOCOL_UDP, "SCTP": servicelbv1.Protocol_PROTOCOL_SCTP,
	}
	affinities = map[string]servicelbv1.SessionAffinity{
		"None": servicelbv1.SessionAffinity_SESSION_AFFINITY_NONE, "ClientIP": servicelbv1.SessionAffinity_SESSION_AFFINITY_CLIENT_IP,
	}
	trafficPolicies = map[string]servicelbv1.TrafficPolicy{
		"Cluster": servicelbv1.TrafficPolicy_TRAFFIC_POLICY_CLUSTER, "Local": servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL,
	}
	distributions = map[string]servicelbv1.TrafficDistribution{
		"PreferClose":    servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_CLOSE,
		"PreferSameZone": servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_SAME_ZONE,
		"PreferSameNode": servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_SAME_NODE,
	}
)

// Word answers Kubernetes' word for one of the API's values; empty for one that
// has none.
func Word[E servicelbv1.ServiceType | servicelbv1.Protocol](value E) string {
	switch v := any(value).(type) {
	case servicelbv1.ServiceType:
		return wordOf(serviceTypes, v)
	case servicelbv1.Protocol:
		return wordOf(protocols, v)
	}
	return ""
}

func wordOf[E comparable](words map[string]E, value E) string {
	for word, v := range words {
		if v == value {
			return word
		}
	}
	return ""
}

// protocolName is the protocol with its default.
func protocolName(text string) string {
	if text == "" {
		return "TCP"
	}
	return text
}

// Message is the service as the API has it. The service has been checked.
func (s *Service) Message() *servicelbv1.Service {
	m := &servicelbv1.Service{
		Namespace: s.Namespace, Name: s.Name, Type: serviceTypes[s.Type], Selector: s.Selector, ExternalIps: s.ExternalIPs,
		LoadBalancerSourceRanges: s.LoadBalancerSourceRanges, AllocateLoadBalancerNodePorts: s.AllocateLoadBalancerNodePorts,
		SessionAffinity: affinities[s.SessionAffinity], InternalTrafficPolicy: trafficPolicies[s.InternalTrafficPolicy],
		ExternalTrafficPolicy: trafficPolicies[s.ExternalTrafficPolicy], TrafficDistribution: distributions[s.TrafficDistribution],
		HealthCheckNodePort: s.HealthCheckNodePort, PublishNotReadyAddresses: s.PublishNotReadyAddresses,
		ExternalName: s.ExternalName, Labels: s.Labels, Annotations: s.Annotations,
	}
	if s.ClusterIP != "" {
		m.ClusterIps = []string{s.ClusterIP}
	}
	if s.LoadBalancerIP != "" {
		m.LoadBalancerIps = []string{s.LoadBalancerIP}
	}
	if seconds := s.SessionAffinityConfig.ClientIP.TimeoutSeconds; seconds != nil {
		m.SessionAffinityTimeoutSeconds = *seconds
	}
	for _, p := range s.Ports {
		m.Ports = append(m.Ports, &servicelbv1.ServicePort{
			Name: p.Name, Protocol: protocols[p.Protocol], Port: p.Port, TargetPort: string(p.TargetPort),
			NodePort: p.NodePort, AppProtocol: p.AppProtocol,
		})
	}
	return m
}

// Message is the slice as the API has it. The slice has been checked.
func (s *EndpointSlice) Message() *servicelbv1.EndpointSlice {
	m := &servicelbv1.EndpointSlice{Namespace: s.Namespace, Name: s.Name, ServiceName: s.ServiceName}
	for _, p := range s.Ports {
		m.Ports = append(m.Ports, &servicelbv1.EndpointPort{Name: p.Name, Protocol: protocols[p.Protocol], Port: p.Port, AppProtocol: p.AppProtocol})
	}
	for _, e := range s.Endpoints {
		endpoint := &servicelbv1.Endpoint{
			Addresses: e.Addresses, Hostname: e.Hostname, NodeName: e.NodeName, Zone: e.Zone,
			Conditions: &servicelbv1.EndpointConditions{Ready: e.Conditions.Ready, Serving: e.Conditions.Serving, Terminating: e.Conditions.Terminating},
		}
		if len(e.Hints.ForZones)+len(e.Hints.ForNodes) > 0 {
			endpoint.Hints = &servicelbv1.EndpointHints{ForZones: names(e.Hints.ForZones), ForNodes: names(e.Hints.ForNodes)}
		}
		m.Endpoints = append(m.Endpoints, endpoint)
	}
	return m
}

func names(list []Named) []string {
	var all []string
	for _, n := range list {
		all = append(all, n.Name)
	}
	return all
}
