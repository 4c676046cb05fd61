package kube

import (
	"fmt"
	"strings"

	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/damask-sdn/damask/internal/rpcerr"
	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// classPrefix is how the load-balancer classes begin that are Damask's.
const classPrefix = "damask.io/"

// labelProxyName is the label of what is for another proxy than the cluster's own.
const labelProxyName = "service.kubernetes.io/service-proxy-name"

// ofOthers says whether a Service or a slice is none of the cluster's own proxy's matters, by
// a label of whatever value: another proxy has it, or it is of a headless service.
func ofOthers(o metav1.Object) bool {
	labels := o.GetLabels()
	_, another := labels[labelProxyName]
	_, headless := labels[corev1.IsHeadlessService]
	return another || headless
}

// balances says whether the load-balancer addresses of a Service are given by Damask.
func balances(s *corev1.Service) bool {
	class := s.Spec.LoadBalancerClass
	return s.Spec.Type == corev1.ServiceTypeLoadBalancer && (class == nil || strings.HasPrefix(*class, classPrefix))
}

// serviceOf answers what a Service says. What the API has no value for becomes a violation.
func serviceOf(s *corev1.Service, v *rpcerr.Violations) *servicelbv1.Service {
	spec := &s.Spec
	service := &servicelbv1.Service{
		Namespace: s.Namespace, Name: s.Name, Selector: spec.Selector, Labels: s.Labels,
		ClusterIps: spec.ClusterIPs, ExternalIps: spec.ExternalIPs, PublishNotReadyAddresses: spec.PublishNotReadyAddresses,
		Type:                  value(v, "spec.type", spec.Type, serviceTypes),
		SessionAffinity:       value(v, "spec.sessionAffinity", spec.SessionAffinity, affinities),
		ExternalTrafficPolicy: value(v, "spec.externalTrafficPolicy", spec.ExternalTrafficPolicy, externalPolicies),
	}
	if len(spec.ClusterIPs) == 0 && spec.ClusterIP != "" {
		service.ClusterIps = []string{spec.ClusterIP}
	}
	if spec.InternalTrafficPolicy != nil {
		service.InternalTrafficPolicy = value(v, "spec.internalTrafficPolicy", *spec.InternalTrafficPolicy, internalPolicies)
	}
	if spec.TrafficDistribution != nil {
		service.TrafficDistribution = value(v, "spec.trafficDistribution", *spec.TrafficDistribution, distributions)
	}
	if c := spec.SessionAffinityConfig; c != nil && c.ClientIP != nil && c.ClientIP.TimeoutSeconds != nil {
		service.SessionAffinityTimeoutSeconds = number(v, "spec.sessionAffinityConfig.clientIP.timeoutSeconds", *c.ClientIP.TimeoutSeconds)
	}
	if idled, ok := s.Annotations[serviceview.IdledAt]; ok {
		service.Annotations = map[string]string{serviceview.IdledAt: idled}
	}
	for i, p := range spec.Ports {
		service.Ports = append(service.Ports, servicePortOf(v, fmt.Sprintf("spec.ports[%d]", i), p))
	}
	switch spec.Type {
	case corev1.ServiceTypeExternalName:
		service.ExternalName = spec.ExternalName
	case corev1.ServiceTypeLoadBalancer:
		balance(v, s, service)
	}
	return service
}

// balance fills in what only a LoadBalancer has. Of somebody else's class it has the addresses
// that it is shown with. Whoever has the class finds the nodes by their node ports and
// health-check port, and may need both before there is an address, or show a name and never one.
func balance(v *rpcerr.Violations, s *corev1.Service, service *servicelbv1.Service) {
	service.AllocateLoadBalancerNodePorts = s.Spec.AllocateLoadBalancerNodePorts
	service.LoadBalancerSourceRanges = s.Spec.LoadBalancerSourceRanges
	service.HealthCheckNodePort = number(v, "spec.healthCheckNodePort", s.Spec.HealthCheckNodePort)
	switch {
	case !balances(s):
		service.LoadBalancerByOthers, service.LoadBalancerIps = true, addressesOf(s)
	case s.Spec.LoadBalancerIP != "":
		service.LoadBalancerIps = []string{s.Spec.LoadBalancerIP}
	}
}

func servicePortOf(v *rpcerr.Violations, field string, p corev1.ServicePort) *servicelbv1.ServicePort {
	port := &servicelbv1.ServicePort{
		Name: p.Name, Protocol: value(v, field+".protocol", p.Protocol, protocols),
		Port: number(v, field+".port", p.Port), NodePort: number(v, field+".nodePort", p.NodePort),
	}
	if text := p.TargetPort.String(); text != "0" {
		port.TargetPort = text
	}
	if p.AppProtocol != nil {
		port.AppProtocol = *p.AppProtocol
	}
	return port
}

// The values of Kubernetes' enumerations. Empty is what an API server fills in.
var (
	serviceTypes = map[corev1.ServiceType]servicelbv1.ServiceType{
		"": servicelbv1.ServiceType_SERVICE_TYPE_UNSPECIFIED, corev1.ServiceTypeClusterIP: servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP,
		corev1.ServiceTypeNodePort:     servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT,
		corev1.ServiceTypeLoadBalancer: servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER,
		corev1.ServiceTypeExternalName: servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME,
	}
	affinities = map[corev1.ServiceAffinity]servicelbv1.SessionAffinity{
		"": servicelbv1.SessionAffinity_SESSION_AFFINITY_UNSPECIFIED, corev1.ServiceAffinityNone: servicelbv1.SessionAffinity_SESSION_AFFINITY_NONE,
		corev1.ServiceAffinityClientIP: servicelbv1.SessionAffinity_SESSION_AFFINITY_CLIENT_IP,
	}
	externalPolicies = map[corev1.ServiceExternalTrafficPolicy]servicelbv1.TrafficPolicy{
		"": servicelbv1.TrafficPolicy_TRAFFIC_POLICY_UNSPECIFIED, corev1.ServiceExternalTrafficPolicyCluster: servicelbv1.TrafficPolicy_TRAFFIC_POLICY_CLUSTER,
		corev1.ServiceExternalTrafficPolicyLocal: servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL,
	}
	internalPolicies = map[corev1.ServiceInternalTrafficPolicy]servicelbv1.TrafficPolicy{
		"": servicelbv1.TrafficPolicy_TRAFFIC_POLICY_UNSPECIFIED, corev1.ServiceInternalTrafficPolicyCluster: servicelbv1.TrafficPolicy_TRAFFIC_POLICY_CLUSTER,
		corev1.ServiceInternalTrafficPolicyLocal: servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL,
	}
	distributions = map[string]servicelbv1.TrafficDistribution{
		"": servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_UNSPECIFIED,
		corev1.ServiceTrafficDistributionPreferClose:    servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_CLOSE,
		corev1.ServiceTrafficDistributionPreferSameZone: servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_SAME_ZONE,
		corev1.ServiceTrafficDistributionPreferSameNode: servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_SAME_NODE,
	}
	protocols = map[corev1.Protocol]servicelbv1.Protocol{
		"": servicelbv1.Protocol_PROTOCOL_UNSPECIFIED, corev1.ProtocolTCP: servicelbv1.Protocol_PROTOCOL_TCP,
		corev1.ProtocolUDP: servicelbv1.Protocol_PROTOCOL_UDP, corev1.ProtocolSCTP: servicelbv1.Protocol_PROTOCOL_SCTP,
	}
	addressTypes = map[discoveryv1.AddressType]servicelbv1.AddressType{
		discoveryv1.AddressTypeIPv4: servicelbv1.AddressType_ADDRESS_TYPE_IPV4, discoveryv1.AddressTypeIPv6: servicelbv1.AddressType_ADDRESS_TYPE_IPV6,
	}
)

// value answers the API's value of one of Kubernetes.
func value[K ~string, V ~int32](v *rpcerr.Violations, field string, k K, known map[K]V) V {
	answer, ok := known[k]
	if !ok {
		v.Addf(field, "%q is not known", k)
	}
	return answer
}

// number answers a number; what is too large is for the check to say.
func number(v *rpcerr.Violations, field string, n int32) uint32 {
	if n < 0 {
		v.Addf(field, "%d is negative", n)
		return 0
	}
	return uint32(n)
}

// sliceOf answers what an EndpointSlice says, nil if it belongs to no Service. What the API
// has no value for becomes a violation.
func sliceOf(s *discoveryv1.EndpointSlice, v *rpcerr.Violations) *servicelbv1.EndpointSlice {
	service := s.Labels[discoveryv1.LabelServiceName]
	if service == "" {
		return nil
	}
	slice := &servicelbv1.EndpointSlice{
		Namespace: s.Namespace, Name: s.Name, ServiceName: service, ManagedBy: s.Labels[discoveryv1.LabelManagedBy],
		AddressType: value(v, "addressType", s.AddressType, addressTypes),
	}
	for i, p := range s.Ports {
		if p.Port == nil {
			continue // "all ports", which no Service can mean
		}
		port := &servicelbv1.EndpointPort{Port: number(v, fmt.Sprintf("ports[%d].port", i), *p.Port)}
		if p.Name != nil {
			port.Name = *p.Name
		}
		if p.Protocol != nil {
			port.Protocol = value(v, fmt.Sprintf("ports[%d].protocol", i), *p.Protocol, protocols)
		}
		if p.AppProtocol != nil {
			port.AppProtocol = *p.AppProtocol
		}
		slice.Ports = append(slice.Ports, port)
	}
	for i := range s.Endpoints {
		slice.Endpoints = append(slice.Endpoints, endpointOf(&s.Endpoints[i]))
	}
	return slice
}

func endpointOf(e *discoveryv1.Endpoint) *servicelbv1.Endpoint {
	endpoint := &servicelbv1.Endpoint{
		Addresses: e.Addresses, Hostname: text(e.Hostname), NodeName: text(e.NodeName), Zone: text(e.Zone),
		Conditions: &servicelbv1.EndpointConditions{Ready: clone(e.Conditions.Ready), Serving: clone(e.Conditions.Serving), Terminating: clone(e.Conditions.Terminating)},
	}
	if r := e.TargetRef; r != nil {
		endpoint.TargetRef = &servicelbv1.TargetReference{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, Uid: string(r.UID)}
	}
	if e.Hints == nil {
		return endpoint
	}
	endpoint.Hints = &servicelbv1.EndpointHints{}
	for _, zone := range e.Hints.ForZones {
		endpoint.Hints.ForZones = append(endpoint.Hints.ForZones, zone.Name)
	}
	for _, node := range e.Hints.ForNodes {
		endpoint.Hints.ForNodes = append(endpoint.Hints.ForNodes, node.Name)
	}
	return endpoint
}

func text(p *string) string {
	if p == nil {
		return ""
	}
	return *p
}

func clone(p *bool) *bool {
	if p == nil {
		return nil
	}
	return proto.Bool(*p)
}
