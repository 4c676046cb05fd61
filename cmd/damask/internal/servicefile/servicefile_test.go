package servicefile

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/configfile"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

func parse(text string) (*Document, error) {
	d := &Document{}
	return d, configfile.Parse("f", []byte(text), d, d.Check)
}

func TestEveryFieldOfAServiceReachesTheAPI(t *testing.T) {
	d, err := parse(`
services:
- namespace: shop
  name: web
  type: LoadBalancer
  clusterIP: 172.30.0.10
  selector: {app: web}
  ports:
  - {name: http, port: 80, targetPort: 8080, protocol: TCP, nodePort: 30080, appProtocol: http}
  - {name: dns, port: 53, targetPort: domain, protocol: UDP}
  externalIPs: [192.0.2.7]
  loadBalancerIP: 198.51.100.1
  loadBalancerSourceRanges: [192.0.2.0/24]
  allocateLoadBalancerNodePorts: false
  sessionAffinity: ClientIP
  sessionAffinityConfig: {clientIP: {timeoutSeconds: 60}}
  internalTrafficPolicy: Local
  externalTrafficPolicy: Local
  trafficDistribution: PreferSameNode
  healthCheckNodePort: 30081
  publishNotReadyAddresses: true
  labels: {team: a}
  annotations: {example.com/note: "any text"}
- {namespace: shop, name: away, type: ExternalName, externalName: example.com}
endpointSlices:
- namespace: shop
  name: web-1
  serviceName: web
  addressType: IPv4
  ports: [{name: http, port: 8080, protocol: TCP, appProtocol: http}]
  endpoints:
  - addresses: [192.0.2.9]
    conditions: {ready: false, serving: true, terminating: true}
    hostname: one
    nodeName: node1
    zone: east
    hints: {forZones: [{name: east}], forNodes: [{name: node1}]}
`)
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []string{
		`{"namespace":"shop","name":"web","type":"SERVICE_TYPE_LOAD_BALANCER","selector":{"app":"web"},"clusterIps":["172.30.0.10"],
		  "ports":[{"name":"http","protocol":"PROTOCOL_TCP","port":80,"targetPort":"8080","nodePort":30080,"appProtocol":"http"},{"name":"dns","protocol":"PROTOCOL_UDP","port":53,"targetPort":"domain"}],
		  "externalIps":["192.0.2.7"],"loadBalancerIps":["198.51.100.1"],"loadBalancerSourceRanges":["192.0.2.0/24"],"allocateLoadBalancerNodePorts":false,
		  "sessionAffinity":"SESSION_AFFINITY_CLIENT_IP","sessionAffinityTimeoutSeconds":60,"internalTrafficPolicy":"TRAFFIC_POLICY_LOCAL","externalTrafficPolicy":"TRAFFIC_POLICY_LOCAL",
		  "trafficDistribution":"TRAFFIC_DISTRIBUTION_PREFER_SAME_NODE","healthCheckNodePort":30081,"publishNotReadyAddresses":true,"labels":{"team":"a"},"annotations":{"example.com/note":"any text"}}`,
		`{"namespace":"shop","name":"away","type":"SERVICE_TYPE_EXTERNAL_NAME","externalName":"example.com"}`,
	} {
		same(t, d.Services[i].Message(), want, &servicelbv1.Service{})
	}
	same(t, d.EndpointSlices[0].Message(), `{"namespace":"shop","name":"web-1","serviceName":"web",
		"ports":[{"name":"http","protocol":"PROTOCOL_TCP","port":8080,"appProtocol":"http"}],
		"endpoints":[{"addresses":["192.0.2.9"],"conditions":{"ready":false,"serving":true,"terminating":true},"hostname":"one","nodeName":"node1","zone":"east",
		"hints":{"forZones":["east"],"forNodes":["node1"]}}]}`, &servicelbv1.EndpointSlice{})
}

// same compares a message with one that is written as json.
func same(t *testing.T, got proto.Message, text string, want proto.Message) {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), want); err != nil {
		t.Fatal(err)
	}
	if !proto.Equal(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestWhatIsWrongIsSaidWithItsField(t *testing.T) {
	for text, want := range map[string]string{
		"services: [{name: a, ports: [{port: 1}]}]":                                                                                                       "services[0].namespace: required",
		"services: [{namespace: n, name: 1a, ports: [{port: 1}]}]":                                                                                        `services[0].name: "1a" is not a DNS-1035 label`,
		"services: [{namespace: n, name: a}]":                                                                                                             "services[0].ports: at least one is needed",
		"services: [{namespace: n, name: a, type: NodePorts, ports: [{port: 1}]}]":                                                                        `services[0].type: "NodePorts" is not one of ClusterIP, ExternalName, LoadBalancer, NodePort`,
		"services: [{namespace: n, name: a, ports: [{port: 1}]}, {namespace: n, name: a, ports: [{port: 1}]}]":                                            "services[1].name: there are two services n/a",
		"services: [{namespace: n, name: a, ports: [{name: x, port: 1}, {name: x, port: 2}]}]":                                                            `services[0].ports[1].name: "x" comes twice`,
		"services: [{namespace: n, name: a, ports: [{name: x, port: 1}, {name: y, port: 1}]}]":                                                            `services[0].ports[1].port: "1/TCP" comes twice`,
		"services: [{namespace: n, name: a, ports: [{port: 1, nodePort: 30000}]}]":                                                                        "services[0].ports[0].nodePort: only for types NodePort and LoadBalancer",
		"services: [{namespace: n, name: a, type: NodePort, ports: [{name: x, port: 1, nodePort: 1}, {name: y, port: 2, nodePort: 1}]}]":                  `ports[1].nodePort: "1/TCP" comes twice`,
		"services: [{namespace: n, name: a, selector: {a: -}, ports: [{port: 1}]}]":                                                                       "services[0].selector.a: a label's value",
		"services: [{namespace: n, name: a, annotations: {-: x}, ports: [{port: 1}]}]":                                                                    "services[0].annotations.-: a label's name",
		"services: [{namespace: n, name: a, ports: [{port: 1, targetPort: 70000}]}]":                                                                      "targetPort: 70000: from 1 to 65535",
		`services: [{namespace: n, name: a, clusterIP: "::1", ports: [{port: 1}]}]`:                                                                       `clusterIP: "::1" is not an IPv4 address`,
		"services: [{namespace: n, name: a, clusterIP: None, type: NodePort, ports: [{port: 1}]}]":                                                        "clusterIP: None is only for type ClusterIP",
		"services: [{namespace: n, name: a, clusterIP: 10.0.0.1, type: ExternalName, externalName: x}]":                                                   "clusterIP: not for type ExternalName",
		"services: [{namespace: n, name: a, type: ExternalName}]":                                                                                         "externalName: required",
		"services: [{namespace: n, name: a, externalName: x, ports: [{port: 1}]}]":                                                                        "externalName: only for type ExternalName",
		"services: [{namespace: n, name: a, externalTrafficPolicy: Local, ports: [{port: 1}]}]":                                                           "externalTrafficPolicy: only for services that are reached from outside",
		"services: [{namespace: n, name: a, loadBalancerIP: 192.0.2.1, ports: [{port: 1}]}]":                                                              "loadBalancerIP: only for type LoadBalancer",
		"services: [{namespace: n, name: a, type: LoadBalancer, loadBalancerSourceRanges: [192.0.2.1/24], ports: [{port: 1}]}]":                           `loadBalancerSourceRanges[0]: "192.0.2.1/24" is not an IPv4 range`,
		"services: [{namespace: n, name: a, type: LoadBalancer, healthCheckNodePort: 30000, ports: [{port: 1}]}]":                                         "healthCheckNodePort: only for type LoadBalancer with externalTrafficPolicy Local",
		"services: [{namespace: n, name: a, externalIPs: [192.0.2.1, 192.0.2.1], ports: [{port: 1}]}]":                                                    `externalIPs[1]: "192.0.2.1" comes twice`,
		"services: [{namespace: n, name: a, sessionAffinityConfig: {clientIP: {timeoutSeconds: 0}}, ports: [{port: 1}]}]":                                 "timeoutSeconds: 0: from 1 to 86400",
		"services: [{namespace: n, name: a, sessionAffinityConfig: {clientIP: {timeoutSeconds: 9}}, ports: [{port: 1}]}]":                                 "timeoutSeconds: only with sessionAffinity ClientIP",
		"endpointSlices: [{namespace: n, name: a}]":                                                                                                       "endpointSlices[0].serviceName: required",
		"endpointSlices: [{namespace: n, name: a, serviceName: b, addressType: IPv6}]":                                                                    `addressType: "IPv6": IPv4 is the only one today`,
		"endpointSlices: [{namespace: n, name: a, serviceName: b, endpoints: [{}]}]":                                                                      "endpoints[0].addresses: at least one is needed",
		"endpointSlices: [{namespace: n, name: a, serviceName: b, ports: [{port: 1}, {port: 2}]}]":                                                        `ports[1].name: "" comes twice`,
		"endpointSlices: [{namespace: n, name: a, serviceName: b, endpoints: [{addresses: [10.0.0.1], hints: {forZones: [{}], forNodes: [{name: -}]}}]}]": "hints.forZones[0].name: required",
		"endpointSlices: [{namespace: n, name: a, serviceName: b, endpoints: [{addresses: [10.0.0.1], zone: -x}]}]":                                       "endpoints[0].zone: a label's value",
	} {
		if _, err := parse(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s\n got %v\nwant %s", text, err, want)
		}
	}
}

func TestAFileWithoutServicesIsRefusedAndOneThatIsNotThereToo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.yaml")
	if err := os.WriteFile(path, []byte("services: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(path); err == nil || !strings.Contains(err.Error(), "neither services nor endpointSlices") {
		t.Errorf("got %v", err)
	}
	if _, err := Load(path + ".gone"); err == nil || !strings.Contains(err.Error(), "there is no file") {
		t.Errorf("got %v", err)
	}
}

// FuzzParse looks for text that is accepted but has no message.
func FuzzParse(f *testing.F) {
	f.Add("services: [{namespace: n, name: a, ports: [{port: 80, targetPort: 8080}], sessionAffinityConfig: {clientIP: {timeoutSeconds: 1}}}]")
	f.Add("endpointSlices: [{namespace: n, name: a, serviceName: b, ports: [{port: 1}], endpoints: [{addresses: [10.0.0.1], conditions: {ready: false}}]}]")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := parse(text)
		if err != nil {
			return
		}
		for i := range d.Services {
			if m := d.Services[i].Message(); m.GetNamespace() == "" || m.GetName() == "" || len(m.GetPorts()) != len(d.Services[i].Ports) {
				t.Errorf("got %v", m)
			}
		}
		for i := range d.EndpointSlices {
			if m := d.EndpointSlices[i].Message(); m.GetServiceName() == "" || len(m.GetEndpoints()) != len(d.EndpointSlices[i].Endpoints) {
				t.Errorf("got %v", m)
			}
		}
	})
}
