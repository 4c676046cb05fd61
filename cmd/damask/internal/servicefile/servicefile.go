// Package servicefile reads Services and EndpointSlices as people write them.
//
// It owns the fields, which are named and nested as in Kubernetes' ServiceSpec
// and EndpointSlice, with namespace and name beside them. It promises that a
// file is accepted whole or refused with everything that is wrong with it, by
// line, and that what it accepts the servicelb service refuses only for what
// others have: an address or a port that is taken, or is of no pool. It must not
// talk to anybody.
//
// Used by the lab's topology and by `damask service`.
package servicefile

import (
	"errors"
	"fmt"
	"os"

	"github.com/damask-sdn/damask/internal/configfile"
)

// Service is a Service. Where a comment is silent, Kubernetes' meaning holds.
type Service struct {
	// Namespace of the service. Required.
	Namespace string `yaml:"namespace"`
	// Name is a DNS-1035 label. Required.
	Name string `yaml:"name"`
	// Type is ClusterIP (default), NodePort, LoadBalancer or ExternalName.
	Type string `yaml:"type"`
	// ClusterIP is the wished address, or None for a headless service; empty: any.
	ClusterIP string `yaml:"clusterIP"`
	// Selector are labels of the pods behind it; empty: EndpointSlices say.
	Selector map[string]string `yaml:"selector"`
	// Ports that it offers.
	Ports []Port `yaml:"ports"`
	// ExternalIPs are addresses that nodes accept for it besides.
	ExternalIPs []string `yaml:"externalIPs"`
	// LoadBalancerIP is the wished load-balancer address; empty: any of the pool.
	LoadBalancerIP string `yaml:"loadBalancerIP"`
	// LoadBalancerSourceRanges say who may come by it; empty: everybody.
	LoadBalancerSourceRanges []string `yaml:"loadBalancerSourceRanges"`
	// AllocateLoadBalancerNodePorts is true by default.
	AllocateLoadBalancerNodePorts *bool `yaml:"allocateLoadBalancerNodePorts"`
	// SessionAffinity is None (default) or ClientIP.
	SessionAffinity string `yaml:"sessionAffinity"`
	// SessionAffinityConfig belongs to ClientIP.
	SessionAffinityConfig AffinityConfig `yaml:"sessionAffinityConfig"`
	// InternalTrafficPolicy is Cluster (default) or Local.
	InternalTrafficPolicy string `yaml:"internalTrafficPolicy"`
	// ExternalTrafficPolicy is Cluster (default) or Local.
	ExternalTrafficPolicy string `yaml:"externalTrafficPolicy"`
	// TrafficDistribution is PreferClose, PreferSameZone, PreferSameNode or empty.
	TrafficDistribution string `yaml:"trafficDistribution"`
	// HealthCheckNodePort is the wished one; 0: any.
	HealthCheckNodePort uint32 `yaml:"healthCheckNodePort"`
	// PublishNotReadyAddresses counts all endpoints as ready.
	PublishNotReadyAddresses bool `yaml:"publishNotReadyAddresses"`
	// ExternalName belongs to type ExternalName.
	ExternalName string `yaml:"externalName"`
	// Labels of the service.
	Labels map[string]string `yaml:"labels"`
	// Annotations of the service.
	Annotations map[string]string `yaml:"annotations"`
}

// FullName is NAMESPACE/NAME.
func (s Service) FullName() string { return s.Namespace + "/" + s.Name }

// Wishes tells whether the service asks for an address or a port of its own.
func (s Service) Wishes() bool {
	wished := s.ClusterIP != "" || s.LoadBalancerIP != "" || s.HealthCheckNodePort != 0
	for _, p := range s.Ports {
		wished = wished || p.NodePort != 0
	}
	return wished
}

// Port is a port of a service.
type Port struct {
	// Name is a DNS-1123 label; required when there are several ports.
	Name string `yaml:"name"`
	// Port is 1 to 65535. Required.
	Port uint32 `yaml:"port"`
	// TargetPort is the pods', a number or a name. Default: Port.
	TargetPort NumberOrName `yaml:"targetPort"`
	// Protocol is TCP (default), UDP or SCTP.
	Protocol string `yaml:"protocol"`
	// NodePort is the wished port of every node; 0: any.
	NodePort uint32 `yaml:"nodePort"`
	// AppProtocol is a hint for others.
	AppProtocol string `yaml:"appProtocol"`
}

// NumberOrName is written as a number or as text.
type NumberOrName string

// UnmarshalText takes any text; what it may be is checked with the rest.
func (n *NumberOrName) UnmarshalText(text []byte) error {
	*n = NumberOrName(text)
	return nil
}

// AffinityConfig says how affinity works.
type AffinityConfig struct {
	// ClientIP belongs to sessionAffinity ClientIP.
	ClientIP struct {
		// TimeoutSeconds is 1 to 86400. Default: 10800.
		TimeoutSeconds *uint32 `yaml:"timeoutSeconds"`
	} `yaml:"clientIP"`
}

// EndpointSlice is a part of the endpoints of a service.
type EndpointSlice struct {
	// Namespace of the service. Required.
	Namespace string `yaml:"namespace"`
	// Name is a DNS-1123 subdomain. Required.
	Name string `yaml:"name"`
	// ServiceName is what Kubernetes has in the label kubernetes.io/service-name.
	// Required.
	ServiceName string `yaml:"serviceName"`
	// AddressType is IPv4, the default.
	AddressType string `yaml:"addressType"`
	// Ports of every endpoint.
	Ports []EndpointPort `yaml:"ports"`
	// Endpoints behind the service.
	Endpoints []Endpoint `yaml:"endpoints"`
}

// FullName is NAMESPACE/NAME.
func (s EndpointSlice) FullName() string { return s.Namespace + "/" + s.Name }

// EndpointPort is a port of all endpoints of a slice.
type EndpointPort struct {
	// Name is that of the service's port.
	Name string `yaml:"name"`
	// Port is 1 to 65535. Required.
	Port uint32 `yaml:"port"`
	// Protocol is TCP (default), UDP or SCTP.
	Protocol string `yaml:"protocol"`
	// AppProtocol is a hint for others.
	AppProtocol string `yaml:"appProtocol"`
}

// Endpoint is one backend.
type Endpoint struct {
	// Addresses of one machine, at least one.
	Addresses []string `yaml:"addresses"`
	// Conditions say what it takes; by default it is ready.
	Conditions Conditions `yaml:"conditions"`
	// Hostname is a DNS-1123 label.
	Hostname string `yaml:"hostname"`
	// NodeName is the node that it runs on.
	NodeName string `yaml:"nodeName"`
	// Zone is where it is.
	Zone string `yaml:"zone"`
	// Hints say who should use it.
	Hints Hints `yaml:"hints"`
}

// Conditions are the state of an endpoint.
type Conditions struct {
	// Ready is true by default.
	Ready *bool `yaml:"ready"`
	// Serving is as Ready by default.
	Serving *bool `yaml:"serving"`
	// Terminating is false by default.
	Terminating *bool `yaml:"terminating"`
}

// Hints say who should use an endpoint.
type Hints struct {
	// ForZones names zones.
	ForZones []Named `yaml:"forZones"`
	// ForNodes names nodes.
	ForNodes []Named `yaml:"forNodes"`
}

// Named is an object with a name alone.
type Named struct {
	// Name of a zone or node. Required.
	Name string `yaml:"name"`
}

// Document is a file of services and slices.
type Document struct {
	// Services in the file.
	Services []Service `yaml:"services"`
	// EndpointSlices in the file.
	EndpointSlices []EndpointSlice `yaml:"endpointSlices"`
}

// Load reads the file at path, or standard input when the path is "-".
func Load(path string) (*Document, error) {
	d := &Document{}
	if path == "-" {
		path = "/dev/stdin"
	}
	if _, err := os.Stat(path); err != nil {
		return nil, fmt.Errorf("there is no file %s", path)
	}
	err := configfile.Load(path, d, func(r *configfile.Report) {
		d.Check(r)
		if len(d.Services)+len(d.EndpointSlices) == 0 {
			r.Addf("", "neither services nor endpointSlices")
		}
	})
	return d, err
}

// Valid answers everything that is wrong with a service that comes from no file.
func (s *Service) Valid() error {
	err := configfile.Parse("", nil, s, s.check)
	var all *configfile.Error
	if !errors.As(err, &all) {
		return err
	}
	var problems []error
	for _, p := range all.Problems {
		problems = append(problems, fmt.Errorf("%s: %s", p.Path, p.Reason))
	}
	return errors.Join(problems...)
}

// Check reports everything that is wrong with the services and slices.
func (d *Document) Check(r *configfile.Report) {
	names, slices := map[string]bool{}, map[string]bool{}
	for i := range d.Services {
		s, at := &d.Services[i], r.In(fmt.Sprintf("services[%d]", i))
		s.check(at)
		if names[s.FullName()] {
			at.Addf("name", "there are two services %s", s.FullName())
		}
		names[s.FullName()] = true
	}
	for i := range d.EndpointSlices {
		s, at := &d.EndpointSlices[i], r.In(fmt.Sprintf("endpointSlices[%d]", i))
		s.check(at)
		if slices[s.FullName()] {
			at.Addf("name", "there are two slices %s", s.FullName())
		}
		slices[s.FullName()] = true
	}
}
