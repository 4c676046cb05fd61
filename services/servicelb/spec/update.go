package spec

import (
	"slices"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// Adopt answers what a wish, with its defaults, means for a service that is
// stored: what was handed out and is not mentioned stays, and what only the
// former type had a use for is dropped, if it is given as it was. So an object
// can be read, changed in its type, and written back.
func Adopt(stored, wish *servicelbv1.Service) *servicelbv1.Service {
	s := proto.CloneOf(wish)
	keep(stored, s)
	drop(stored, s)
	return s
}

func keep(stored, s *servicelbv1.Service) {
	if NeedsClusterIP(stored) && NeedsClusterIP(s) && len(s.GetClusterIps()) == 0 {
		s.ClusterIps = slices.Clone(stored.GetClusterIps())
	}
	if GetsLoadBalancer(stored) && GetsLoadBalancer(s) && len(s.GetLoadBalancerIps()) == 0 {
		s.LoadBalancerIps = slices.Clone(stored.GetLoadBalancerIps())
	}
	if NeedsHealthCheck(stored) && NeedsHealthCheck(s) && s.GetHealthCheckNodePort() == 0 {
		s.HealthCheckNodePort = stored.GetHealthCheckNodePort()
	}
	if !NeedsNodePorts(stored) || !NeedsNodePorts(s) {
		return
	}
	type key struct {
		protocol servicelbv1.Protocol
		port     uint32
	}
	former, wished := map[key]uint32{}, map[key]bool{}
	for _, p := range stored.GetPorts() {
		former[key{p.GetProtocol(), p.GetPort()}] = p.GetNodePort()
	}
	for _, p := range s.GetPorts() {
		wished[key{p.GetProtocol(), p.GetNodePort()}] = true
	}
	for _, p := range s.GetPorts() {
		number := former[key{p.GetProtocol(), p.GetPort()}]
		if p.GetNodePort() == 0 && !wished[key{p.GetProtocol(), number}] {
			p.NodePort = number
		}
	}
}

func drop(stored, s *servicelbv1.Service) {
	if NeedsClusterIP(stored) && !NeedsClusterIP(s) && slices.Equal(s.GetClusterIps(), stored.GetClusterIps()) {
		s.ClusterIps = nil
	}
	if MayHaveNodePorts(stored) && !MayHaveNodePorts(s) {
		had := map[uint32]bool{}
		for _, p := range stored.GetPorts() {
			had[p.GetNodePort()] = true
		}
		for _, p := range s.GetPorts() {
			if had[p.GetNodePort()] {
				p.NodePort = 0
			}
		}
	}
	if NeedsHealthCheck(stored) && !NeedsHealthCheck(s) && s.GetHealthCheckNodePort() == stored.GetHealthCheckNodePort() {
		s.HealthCheckNodePort = 0
	}
	if outside(stored) && !outside(s) && s.GetExternalTrafficPolicy() == stored.GetExternalTrafficPolicy() {
		s.ExternalTrafficPolicy = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_UNSPECIFIED
	}
	if stored.GetType() == externalName && s.GetType() != externalName && s.GetExternalName() == stored.GetExternalName() {
		s.ExternalName = ""
	}
	if !NeedsLoadBalancer(stored) || NeedsLoadBalancer(s) {
		return
	}
	s.AllocateLoadBalancerNodePorts = nil
	s.LoadBalancerByOthers = false
	if slices.Equal(s.GetLoadBalancerIps(), stored.GetLoadBalancerIps()) {
		s.LoadBalancerIps = nil
	}
	if slices.Equal(s.GetLoadBalancerSourceRanges(), stored.GetLoadBalancerSourceRanges()) {
		s.LoadBalancerSourceRanges = nil
	}
}

// CheckChange reports what cannot change from one state of a service to the
// next. Clients keep connections to these.
func CheckChange(stored, next *servicelbv1.Service, v *rpcerr.Violations) {
	if NeedsClusterIP(stored) && NeedsClusterIP(next) && !slices.Equal(stored.GetClusterIps(), next.GetClusterIps()) {
		v.Addf("service.cluster_ips", "cannot change from %v: delete the service and create it anew", stored.GetClusterIps())
	}
	if NeedsHealthCheck(stored) && NeedsHealthCheck(next) && stored.GetHealthCheckNodePort() != next.GetHealthCheckNodePort() {
		v.Addf("service.health_check_node_port", "cannot change from %d while it is needed", stored.GetHealthCheckNodePort())
	}
}
