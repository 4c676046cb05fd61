// Package spec is what a Service and an EndpointSlice may be, by Kubernetes'
// rules.
//
// It is pure. It owns defaults, validation, and what an update keeps of the
// service that it replaces. It promises to name everything that is wrong at
// once, and that what it accepts Kubernetes would accept. It must not know which
// addresses and ports are taken.
package spec

import (
	"strconv"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// defaultAffinity is how long a client stays with its backend, in seconds, as
// in Kubernetes: three hours.
const defaultAffinity = 10800

// The types, by short names.
const (
	clusterIP    = servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP
	nodePort     = servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT
	loadBalancer = servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER
	externalName = servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME
)

// Defaults answers the service with every default filled in, save what has to
// be handed out. The given one is not changed.
func Defaults(given *servicelbv1.Service) *servicelbv1.Service {
	s := proto.CloneOf(given)
	s.Revision = 0
	if s.GetType() == servicelbv1.ServiceType_SERVICE_TYPE_UNSPECIFIED {
		s.Type = clusterIP
	}
	for _, p := range s.GetPorts() {
		if p.GetProtocol() == servicelbv1.Protocol_PROTOCOL_UNSPECIFIED {
			p.Protocol = servicelbv1.Protocol_PROTOCOL_TCP
		}
		if p.GetTargetPort() == "" {
			p.TargetPort = strconv.FormatUint(uint64(p.GetPort()), 10)
		}
	}
	if s.GetSessionAffinity() == servicelbv1.SessionAffinity_SESSION_AFFINITY_UNSPECIFIED {
		s.SessionAffinity = servicelbv1.SessionAffinity_SESSION_AFFINITY_NONE
	}
	switch {
	case s.GetSessionAffinity() == servicelbv1.SessionAffinity_SESSION_AFFINITY_NONE:
		s.SessionAffinityTimeoutSeconds = 0
	case s.GetSessionAffinityTimeoutSeconds() == 0:
		s.SessionAffinityTimeoutSeconds = defaultAffinity
	}
	if s.GetInternalTrafficPolicy() == servicelbv1.TrafficPolicy_TRAFFIC_POLICY_UNSPECIFIED {
		s.InternalTrafficPolicy = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_CLUSTER
	}
	if outside(s) && s.GetExternalTrafficPolicy() == servicelbv1.TrafficPolicy_TRAFFIC_POLICY_UNSPECIFIED {
		s.ExternalTrafficPolicy = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_CLUSTER
	}
	if s.GetType() == loadBalancer && s.AllocateLoadBalancerNodePorts == nil {
		s.AllocateLoadBalancerNodePorts = proto.Bool(true)
	}
	return s
}

// Headless says that a service wants no cluster IP.
func Headless(s *servicelbv1.Service) bool {
	return len(s.GetClusterIps()) > 0 && s.GetClusterIps()[0] == serviceview.Headless
}

// NeedsClusterIP says whether a service has a cluster IP, or is headless.
func NeedsClusterIP(s *servicelbv1.Service) bool { return s.GetType() != externalName }

// NeedsNodePorts says whether each port of a service has a node port.
func NeedsNodePorts(s *servicelbv1.Service) bool {
	return s.GetType() == nodePort || s.GetType() == loadBalancer && s.GetAllocateLoadBalancerNodePorts()
}

// MayHaveNodePorts says whether a service's ports may have node ports.
func MayHaveNodePorts(s *servicelbv1.Service) bool {
	return s.GetType() == nodePort || s.GetType() == loadBalancer
}

// NeedsHealthCheck says whether a service has a health-check node port.
func NeedsHealthCheck(s *servicelbv1.Service) bool {
	return s.GetType() == loadBalancer && s.GetExternalTrafficPolicy() == servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL
}

// NeedsLoadBalancer says whether a service has load-balancer addresses.
func NeedsLoadBalancer(s *servicelbv1.Service) bool { return s.GetType() == loadBalancer }

// GetsLoadBalancer says whether a service's load-balancer addresses are handed out to it.
func GetsLoadBalancer(s *servicelbv1.Service) bool {
	return NeedsLoadBalancer(s) && !s.GetLoadBalancerByOthers()
}

// Selects says whether a service's endpoints are pods that it selects.
func Selects(s *servicelbv1.Service) bool { return len(s.GetSelector()) > 0 && NeedsClusterIP(s) }

// outside says whether a service is reached from outside the cluster.
func outside(s *servicelbv1.Service) bool {
	return MayHaveNodePorts(s) || s.GetType() == clusterIP && len(s.GetExternalIps()) > 0
}
