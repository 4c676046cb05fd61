package spec_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

const (
	nodePort     = servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT
	loadBalancer = servicelbv1.ServiceType_SERVICE_TYPE_LOAD_BALANCER
	externalName = servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME
	local        = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL
	udp          = servicelbv1.Protocol_PROTOCOL_UDP
	clientIP     = servicelbv1.SessionAffinity_SESSION_AFFINITY_CLIENT_IP
)

func web(change ...func(*servicelbv1.Service)) *servicelbv1.Service {
	s := &servicelbv1.Service{Namespace: "shop", Name: "web", Ports: []*servicelbv1.ServicePort{{Port: 80}}}
	for _, f := range change {
		f(s)
	}
	return s
}

// violations answers the fields with a violation, of a service with defaults.
func violations(s *servicelbv1.Service) ([]string, error) {
	var v rpcerr.Violations
	spec.CheckService(spec.Defaults(s), &v)
	err := v.Err("test")
	var list []string
	for _, violation := range rpcerr.List(err) {
		list = append(list, strings.TrimPrefix(violation.Field, "service."))
	}
	return list, err
}

func TestWhatAServiceMayBe(t *testing.T) {
	type change = func(*servicelbv1.Service)
	ports := func(list ...*servicelbv1.ServicePort) change {
		return func(s *servicelbv1.Service) { s.Ports = list }
	}
	typed := func(t servicelbv1.ServiceType, more ...change) change {
		return func(s *servicelbv1.Service) {
			s.Type = t
			for _, f := range more {
				f(s)
			}
		}
	}
	cases := []struct {
		name   string
		change change
		want   []string
	}{
		{"a plain one", func(*servicelbv1.Service) {}, nil},
		{"no names", func(s *servicelbv1.Service) { s.Namespace, s.Name = "", "" }, []string{"namespace", "name"}},
		{"a name that begins with a digit", func(s *servicelbv1.Service) { s.Name = "1web" }, []string{"name"}},
		{"names that are too long", func(s *servicelbv1.Service) { s.Name, s.Namespace = strings.Repeat("a", 64), strings.Repeat("a", 64) }, []string{"namespace", "name"}},
		{"an unknown type", typed(9), []string{"type"}},
		{"unknown values", func(s *servicelbv1.Service) {
			s.SessionAffinity, s.InternalTrafficPolicy, s.TrafficDistribution, s.Ports[0].Protocol = 9, 9, 9, 9
		}, []string{"session_affinity", "internal_traffic_policy", "traffic_distribution", "ports[0].protocol"}},

		{"no ports", ports(), []string{"ports"}},
		{"no ports, headless", func(s *servicelbv1.Service) { s.Ports, s.ClusterIps = nil, []string{"None"} }, nil},
		{"two ports without names", ports(&servicelbv1.ServicePort{Port: 80}, &servicelbv1.ServicePort{Port: 81}), []string{"ports[0].name", "ports[1].name"}},
		{"two ports of one name", ports(&servicelbv1.ServicePort{Name: "a", Port: 80}, &servicelbv1.ServicePort{Name: "a", Port: 81}), []string{"ports[1].name"}},
		{"a name of a port that is none", ports(&servicelbv1.ServicePort{Name: "A_b", Port: 80}), []string{"ports[0].name"}},
		{"one port twice", ports(&servicelbv1.ServicePort{Name: "a", Port: 80}, &servicelbv1.ServicePort{Name: "b", Port: 80}), []string{"ports[1].port"}},
		{"one port for two protocols", ports(&servicelbv1.ServicePort{Name: "a", Port: 80}, &servicelbv1.ServicePort{Name: "b", Port: 80, Protocol: udp}), nil},
		{"ports that are none", ports(&servicelbv1.ServicePort{Name: "a"}, &servicelbv1.ServicePort{Name: "b", Port: 65536}),
			[]string{"ports[0].port", "ports[0].target_port", "ports[1].port", "ports[1].target_port"}},
		{"target ports by name", ports(&servicelbv1.ServicePort{Port: 80, TargetPort: "http-1"}), nil},
		{"a target port that is none", ports(&servicelbv1.ServicePort{Port: 80, TargetPort: "a--b"}), []string{"ports[0].target_port"}},
		{"a target port that is too long", ports(&servicelbv1.ServicePort{Port: 80, TargetPort: "abcdefghijklmnop"}), []string{"ports[0].target_port"}},
		{"a target port that is too high", ports(&servicelbv1.ServicePort{Port: 80, TargetPort: "99999999999"}), []string{"ports[0].target_port"}},
		{"an application protocol", ports(&servicelbv1.ServicePort{Port: 80, AppProtocol: "kubernetes.io/h2c"}), nil},
		{"an application protocol that is none", ports(&servicelbv1.ServicePort{Port: 80, AppProtocol: "a/b/c"}), []string{"ports[0].app_protocol"}},
		{"a node port for ClusterIP", ports(&servicelbv1.ServicePort{Port: 80, NodePort: 30000}), []string{"ports[0].node_port"}},
		{"a node port twice", typed(nodePort, ports(&servicelbv1.ServicePort{Name: "a", Port: 80, NodePort: 30000}, &servicelbv1.ServicePort{Name: "b", Port: 81, NodePort: 30000})), []string{"ports[1].node_port"}},
		{"a node port for two protocols", typed(nodePort, ports(&servicelbv1.ServicePort{Name: "a", Port: 80, NodePort: 30000}, &servicelbv1.ServicePort{Name: "b", Port: 80, Protocol: udp, NodePort: 30000})), nil},

		{"cluster IPs that are none", func(s *servicelbv1.Service) { s.ClusterIps = []string{"x"} }, []string{"cluster_ips[0]"}},
		{"an IPv6 cluster IP", func(s *servicelbv1.Service) { s.ClusterIps = []string{"fd00::1"} }, []string{"cluster_ips[0]"}},
		{"two families", func(s *servicelbv1.Service) { s.ClusterIps = []string{"172.30.0.1", "fd00::1"} }, []string{"cluster_ips[1]", "cluster_ips"}},
		{"None and another", func(s *servicelbv1.Service) { s.ClusterIps = []string{"None", "172.30.0.1"} }, []string{"cluster_ips[0]", "cluster_ips"}},
		{"a headless NodePort", typed(nodePort, func(s *servicelbv1.Service) { s.ClusterIps = []string{"None"} }), []string{"cluster_ips[0]"}},

		{"external addresses", func(s *servicelbv1.Service) { s.ExternalIps, s.ExternalTrafficPolicy = []string{"192.0.2.1"}, local }, nil},
		{"external addresses that are special", func(s *servicelbv1.Service) {
			s.ExternalIps = []string{"127.0.0.1", "0.0.0.0", "169.254.1.1", "224.0.0.1", "192.0.2.1", "192.0.2.1", "192.0.2.01"}
		}, []string{"external_ips[0]", "external_ips[1]", "external_ips[2]", "external_ips[3]", "external_ips[5]", "external_ips[6]"}},
		{"an external policy of an internal service", func(s *servicelbv1.Service) { s.ExternalTrafficPolicy = local }, []string{"external_traffic_policy"}},

		{"ExternalName", typed(externalName, func(s *servicelbv1.Service) { s.ExternalName, s.Ports = "db.example.com", nil }), nil},
		{"ExternalName without a name", typed(externalName), []string{"external_name"}},
		{"ExternalName with a cluster IP", typed(externalName, func(s *servicelbv1.Service) { s.ExternalName, s.ClusterIps = "a.b", []string{"172.30.0.1"} }), []string{"cluster_ips"}},
		{"an external name of another type", func(s *servicelbv1.Service) { s.ExternalName = "a.b" }, []string{"external_name"}},

		{"LoadBalancer fields of another type", func(s *servicelbv1.Service) {
			s.LoadBalancerIps, s.LoadBalancerSourceRanges = []string{"192.0.2.1"}, []string{"10.0.0.0/8"}
			s.AllocateLoadBalancerNodePorts, s.HealthCheckNodePort, s.LoadBalancerByOthers = proto.Bool(true), 30000, true
		}, []string{"load_balancer_ips", "load_balancer_source_ranges", "allocate_load_balancer_node_ports", "load_balancer_by_others", "health_check_node_port"}},
		{"a LoadBalancer", typed(loadBalancer, func(s *servicelbv1.Service) {
			s.LoadBalancerIps, s.LoadBalancerSourceRanges = []string{"192.0.2.1"}, []string{"10.0.0.0/8"}
			s.ExternalTrafficPolicy, s.HealthCheckNodePort = local, 30000
		}), nil},
		{"source ranges that are none", typed(loadBalancer, func(s *servicelbv1.Service) { s.LoadBalancerSourceRanges = []string{"10.0.0.1/8", "x", "fd00::/8"} }),
			[]string{"load_balancer_source_ranges[0]", "load_balancer_source_ranges[1]", "load_balancer_source_ranges[2]"}},
		{"a health-check port that is a node port", typed(loadBalancer, func(s *servicelbv1.Service) {
			s.ExternalTrafficPolicy, s.HealthCheckNodePort, s.Ports[0].NodePort = local, 30000, 30000
		}), []string{"health_check_node_port"}},
		{"a health-check port without Local", typed(loadBalancer, func(s *servicelbv1.Service) { s.HealthCheckNodePort = 30000 }), []string{"health_check_node_port"}},

		{"an affinity that is too long", func(s *servicelbv1.Service) { s.SessionAffinity, s.SessionAffinityTimeoutSeconds = clientIP, 86401 }, []string{"session_affinity_timeout_seconds"}},
		{"labels that are none", func(s *servicelbv1.Service) {
			s.Selector, s.Labels, s.Annotations = map[string]string{"a b": "c d"}, map[string]string{"/x": ""}, map[string]string{"a/": "any thing"}
		}, []string{"selector", "selector[a b]", "labels", "annotations"}},
		{"too many annotations", func(s *servicelbv1.Service) { s.Annotations = map[string]string{"a": strings.Repeat("x", 65<<10)} }, []string{"annotations"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if got, err := violations(web(c.change)); !slices.Equal(got, c.want) {
				t.Errorf("violations of %v, want %v: %v", got, c.want, err)
			}
		})
	}
}

func TestLimitsAreNamed(t *testing.T) {
	s := web(func(s *servicelbv1.Service) {
		s.Type, s.Ports = loadBalancer, nil
		for i := range 101 {
			s.Ports = append(s.Ports, &servicelbv1.ServicePort{Name: fmt.Sprintf("p%d", i), Port: uint32(i + 1)})
			s.ExternalIps = append(s.ExternalIps, fmt.Sprintf("192.0.2.%d", i))
		}
		for i := range 1001 {
			s.LoadBalancerSourceRanges = append(s.LoadBalancerSourceRanges, fmt.Sprintf("10.%d.%d.0/24", i/256, i%256))
		}
	})
	if got, err := violations(s); !slices.Equal(got, []string{"ports", "external_ips", "load_balancer_source_ranges"}) {
		t.Errorf("violations of %v: %v", got, err)
	}
}

func TestDefaultsAreKubernetesOnes(t *testing.T) {
	given := web(func(s *servicelbv1.Service) { s.Revision, s.SessionAffinityTimeoutSeconds = 7, 5 })
	before := proto.CloneOf(given)
	s := spec.Defaults(given)
	want := web(func(s *servicelbv1.Service) {
		s.Type, s.InternalTrafficPolicy = servicelbv1.ServiceType_SERVICE_TYPE_CLUSTER_IP, servicelbv1.TrafficPolicy_TRAFFIC_POLICY_CLUSTER
		s.SessionAffinity = servicelbv1.SessionAffinity_SESSION_AFFINITY_NONE
		s.Ports[0].Protocol, s.Ports[0].TargetPort = servicelbv1.Protocol_PROTOCOL_TCP, "80"
	})
	if !proto.Equal(s, want) {
		t.Errorf("got  %v\nwant %v", s, want)
	}
	if !proto.Equal(given, before) {
		t.Error("the given service was changed")
	}
	if again := spec.Defaults(s); !proto.Equal(again, s) {
		t.Errorf("defaults of defaults: %v", again)
	}
}

func TestNodePortsStayWithTheirPorts(t *testing.T) {
	stored := spec.Defaults(web(func(s *servicelbv1.Service) {
		s.Type = nodePort
		s.Ports = []*servicelbv1.ServicePort{{Name: "a", Port: 80, NodePort: 30001}, {Name: "b", Port: 81, NodePort: 30002}, {Name: "c", Port: 82, NodePort: 30003}}
	}))
	wish := spec.Defaults(web(func(s *servicelbv1.Service) {
		s.Type = nodePort
		s.Ports = []*servicelbv1.ServicePort{{Name: "z", Port: 81}, {Name: "a", Port: 80, NodePort: 30003}, {Name: "c", Port: 82}, {Name: "n", Port: 83}}
	}))
	var got []uint32
	for _, p := range spec.Adopt(stored, wish).GetPorts() {
		got = append(got, p.GetNodePort())
	}
	// c's former number was wished for by a, so c gets another.
	if want := []uint32{30002, 30003, 0, 0}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func FuzzCheckService(f *testing.F) {
	for _, s := range []*servicelbv1.Service{web(), web(func(s *servicelbv1.Service) { s.Type, s.ClusterIps = loadBalancer, []string{"None"} }), {}} {
		data, err := proto.Marshal(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s := &servicelbv1.Service{}
		if proto.Unmarshal(data, s) != nil {
			return
		}
		wish := spec.Defaults(s)
		var v rpcerr.Violations
		spec.CheckService(wish, &v)
		// What is valid adopts itself unchanged: reading and writing back is safe.
		if v.Empty() && !proto.Equal(spec.Adopt(wish, wish), wish) {
			t.Errorf("%v does not adopt itself", wish)
		}
	})
}
