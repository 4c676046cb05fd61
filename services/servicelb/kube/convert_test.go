package kube

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"
	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

func read[T any](t testing.TB, text string) *T {
	t.Helper()
	object := new(T)
	if err := json.Unmarshal([]byte(text), object); err != nil {
		t.Fatal(err)
	}
	return object
}

// Services as an API server answers them, and what they come down to.
var services = []struct{ name, object, want string }{
	{
		"a cluster IP", `{"metadata": {"namespace": "shop", "name": "web", "labels": {"a": "b"}, "annotations": {"idling.alpha.openshift.io/idled-at": "2026-01-01T00:00:00Z", "other": "x"}},
			"spec": {"type": "ClusterIP", "clusterIP": "172.30.0.9", "clusterIPs": ["172.30.0.9"], "selector": {"app": "web"}, "sessionAffinity": "ClientIP",
			"sessionAffinityConfig": {"clientIP": {"timeoutSeconds": 60}}, "internalTrafficPolicy": "Local", "publishNotReadyAddresses": true, "trafficDistribution": "PreferSameNode",
			"ports": [{"name": "http", "protocol": "TCP", "port": 80, "targetPort": "web", "appProtocol": "http"}, {"name": "dns", "protocol": "UDP", "port": 53, "targetPort": 5353}]}}`,
		`{"namespace": "shop", "name": "web", "type": "SERVICE_TYPE_CLUSTER_IP", "selector": {"app": "web"}, "clusterIps": ["172.30.0.9"], "labels": {"a": "b"},
			"annotations": {"idling.alpha.openshift.io/idled-at": "2026-01-01T00:00:00Z"}, "sessionAffinity": "SESSION_AFFINITY_CLIENT_IP", "sessionAffinityTimeoutSeconds": 60,
			"internalTrafficPolicy": "TRAFFIC_POLICY_LOCAL", "publishNotReadyAddresses": true, "trafficDistribution": "TRAFFIC_DISTRIBUTION_PREFER_SAME_NODE",
			"ports": [{"name": "http", "protocol": "PROTOCOL_TCP", "port": 80, "targetPort": "web", "appProtocol": "http"}, {"name": "dns", "protocol": "PROTOCOL_UDP", "port": 53, "targetPort": "5353"}]}`,
	},
	{
		"a load balancer", `{"metadata": {"namespace": "shop", "name": "web"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["172.30.0.9"], "externalIPs": ["192.0.2.9"], "sessionAffinity": "None",
			"externalTrafficPolicy": "Local", "internalTrafficPolicy": "Cluster", "healthCheckNodePort": 32000, "allocateLoadBalancerNodePorts": true, "loadBalancerIP": "192.0.2.130",
			"loadBalancerSourceRanges": ["192.0.2.0/24"], "loadBalancerClass": "damask.io/edge", "ports": [{"protocol": "SCTP", "port": 80, "targetPort": 80, "nodePort": 30080}]}}`,
		`{"namespace": "shop", "name": "web", "type": "SERVICE_TYPE_LOAD_BALANCER", "clusterIps": ["172.30.0.9"], "externalIps": ["192.0.2.9"], "sessionAffinity": "SESSION_AFFINITY_NONE",
			"externalTrafficPolicy": "TRAFFIC_POLICY_LOCAL", "internalTrafficPolicy": "TRAFFIC_POLICY_CLUSTER", "healthCheckNodePort": 32000, "allocateLoadBalancerNodePorts": true,
			"loadBalancerIps": ["192.0.2.130"], "loadBalancerSourceRanges": ["192.0.2.0/24"], "ports": [{"protocol": "PROTOCOL_SCTP", "port": 80, "targetPort": "80", "nodePort": 30080}]}`,
	},
	{
		"somebody else's load balancer", `{"metadata": {"namespace": "shop", "name": "web"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["172.30.0.9"], "loadBalancerClass": "example.com/lb",
			"loadBalancerSourceRanges": ["192.0.2.0/24"], "allocateLoadBalancerNodePorts": true, "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000, "loadBalancerIP": "192.0.2.130",
			"ports": [{"port": 80, "nodePort": 30080}]}, "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.7", "ipMode": "VIP"}, {"ip": "192.0.2.8", "ipMode": "Proxy"}, {"hostname": "lb.example.com"}]}}}`,
		`{"namespace": "shop", "name": "web", "type": "SERVICE_TYPE_LOAD_BALANCER", "clusterIps": ["172.30.0.9"], "externalTrafficPolicy": "TRAFFIC_POLICY_LOCAL", "healthCheckNodePort": 32000,
			"loadBalancerByOthers": true, "loadBalancerIps": ["192.0.2.7"], "loadBalancerSourceRanges": ["192.0.2.0/24"], "allocateLoadBalancerNodePorts": true, "ports": [{"port": 80, "nodePort": 30080}]}`,
	},
	{
		"somebody else's load balancer that has no address", `{"metadata": {"namespace": "shop", "name": "web"}, "spec": {"type": "LoadBalancer", "clusterIPs": ["172.30.0.9"], "loadBalancerClass": "example.com/lb",
			"allocateLoadBalancerNodePorts": false, "externalTrafficPolicy": "Local", "healthCheckNodePort": 32000, "ports": [{"port": 80}]}}`,
		`{"namespace": "shop", "name": "web", "type": "SERVICE_TYPE_LOAD_BALANCER", "clusterIps": ["172.30.0.9"], "externalTrafficPolicy": "TRAFFIC_POLICY_LOCAL", "healthCheckNodePort": 32000,
			"loadBalancerByOthers": true, "allocateLoadBalancerNodePorts": false, "ports": [{"port": 80}]}`,
	},
	{
		"headless", `{"metadata": {"namespace": "shop", "name": "web"}, "spec": {"type": "ClusterIP", "clusterIP": "None"}}`,
		`{"namespace": "shop", "name": "web", "type": "SERVICE_TYPE_CLUSTER_IP", "clusterIps": ["None"]}`,
	},
	{
		"a DNS alias", `{"metadata": {"namespace": "shop", "name": "web"}, "spec": {"type": "ExternalName", "externalName": "www.example.com"}}`,
		`{"namespace": "shop", "name": "web", "type": "SERVICE_TYPE_EXTERNAL_NAME", "externalName": "www.example.com"}`,
	},
}

func TestAServiceIsTakenOverWithAllThatItSays(t *testing.T) {
	for _, c := range services {
		t.Run(c.name, func(t *testing.T) {
			want := &servicelbv1.Service{}
			if err := protojson.Unmarshal([]byte(c.want), want); err != nil {
				t.Fatal(err)
			}
			var v rpcerr.Violations
			got := serviceOf(read[corev1.Service](t, c.object), &v)
			if !proto.Equal(got, want) {
				t.Errorf("%v\nwant\n%v", got, want)
			}
			if spec.CheckService(spec.Defaults(got), &v); !v.Empty() {
				t.Error(v.Err("test"))
			}
		})
	}
}

const sliceJSON = `{"metadata": {"namespace": "shop", "name": "web-x7", "labels": {"kubernetes.io/service-name": "web", "endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}},
	"addressType": "IPv4", "ports": [{"name": "", "protocol": "TCP", "port": 8080, "appProtocol": "http"}, {"name": "all"}],
	"endpoints": [{"addresses": ["10.128.2.4"], "conditions": {"ready": false, "serving": true, "terminating": true}, "hostname": "web-0", "nodeName": "n1", "zone": "z1",
		"targetRef": {"kind": "Pod", "namespace": "shop", "name": "web-0", "uid": "u"}, "hints": {"forZones": [{"name": "z1"}], "forNodes": [{"name": "n1"}]}}, {"addresses": ["10.128.2.5"]}]}`

func TestAnEndpointSliceIsTakenOverWithAllThatItSays(t *testing.T) {
	want := &servicelbv1.EndpointSlice{
		Namespace: "shop", Name: "web-x7", ServiceName: "web", ManagedBy: "endpointslice-controller.k8s.io", AddressType: servicelbv1.AddressType_ADDRESS_TYPE_IPV4,
		Ports: []*servicelbv1.EndpointPort{{Protocol: servicelbv1.Protocol_PROTOCOL_TCP, Port: 8080, AppProtocol: "http"}},
		Endpoints: []*servicelbv1.Endpoint{
			{
				Addresses: []string{"10.128.2.4"}, Hostname: "web-0", NodeName: "n1", Zone: "z1",
				Conditions: &servicelbv1.EndpointConditions{Ready: proto.Bool(false), Serving: proto.Bool(true), Terminating: proto.Bool(true)},
				TargetRef:  &servicelbv1.TargetReference{Kind: "Pod", Namespace: "shop", Name: "web-0", Uid: "u"},
				Hints:      &servicelbv1.EndpointHints{ForZones: []string{"z1"}, ForNodes: []string{"n1"}},
			},
			{Addresses: []string{"10.128.2.5"}, Conditions: &servicelbv1.EndpointConditions{}},
		},
	}
	var v rpcerr.Violations
	got := sliceOf(read[discoveryv1.EndpointSlice](t, sliceJSON), &v)
	if !proto.Equal(got, want) {
		t.Errorf("%v\nwant\n%v", got, want)
	}
	if spec.CheckSlice(got, &v); !v.Empty() {
		t.Error(v.Err("test"))
	}
	if got := sliceOf(read[discoveryv1.EndpointSlice](t, strings.Replace(sliceJSON, "kubernetes.io/service-name", "else", 1)), &v); got != nil {
		t.Errorf("a slice of no service became %v", got)
	}
}

func TestWhatTheAPIHasNoValueForIsNamed(t *testing.T) {
	var v rpcerr.Violations
	serviceOf(read[corev1.Service](t, `{"spec": {"type": "Mesh", "sessionAffinity": "Cookie", "externalTrafficPolicy": "Zone", "internalTrafficPolicy": "Zone", "trafficDistribution": "Random",
		"ports": [{"protocol": "ICMP", "port": -1, "nodePort": -2}]}}`), &v)
	sliceOf(read[discoveryv1.EndpointSlice](t, `{"metadata": {"labels": {"kubernetes.io/service-name": "web"}}, "addressType": "FQDN", "ports": [{"port": -1, "protocol": "ICMP"}]}`), &v)
	got := v.Err("test").Error()
	for _, part := range []string{
		`spec.type: "Mesh"`, "spec.sessionAffinity: ", "spec.externalTrafficPolicy: ", "spec.internalTrafficPolicy: ", "spec.trafficDistribution: ", `spec.ports[0].protocol: "ICMP"`,
		"spec.ports[0].port: -1", "spec.ports[0].nodePort: -2", `addressType: "FQDN"`, "ports[0].port: -1",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing in %s", part, got)
		}
	}
}

// FuzzService feeds objects as an API server might send them. Nothing of what is accepted is
// lost.
func FuzzService(f *testing.F) {
	for _, c := range services {
		f.Add(c.object)
	}
	f.Fuzz(func(t *testing.T, text string) {
		s := &corev1.Service{}
		if json.Unmarshal([]byte(text), s) != nil {
			t.Skip()
		}
		var v rpcerr.Violations
		got := serviceOf(s, &v)
		if len(got.GetPorts()) != len(s.Spec.Ports) {
			t.Errorf("%d ports became %d", len(s.Spec.Ports), len(got.GetPorts()))
		}
		spec.CheckService(spec.Defaults(got), &v)
	})
}

// FuzzSlice is FuzzService for EndpointSlices.
func FuzzSlice(f *testing.F) {
	f.Add(sliceJSON)
	f.Fuzz(func(t *testing.T, text string) {
		s := &discoveryv1.EndpointSlice{}
		if json.Unmarshal([]byte(text), s) != nil {
			t.Skip()
		}
		var v rpcerr.Violations
		got := sliceOf(s, &v)
		if got == nil {
			return
		}
		if len(got.GetEndpoints()) != len(s.Endpoints) {
			t.Errorf("%d endpoints became %d", len(s.Endpoints), len(got.GetEndpoints()))
		}
		spec.CheckSlice(spec.SliceDefaults(got), &v)
	})
}
