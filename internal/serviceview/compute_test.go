package serviceview_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/serviceview"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

const (
	cluster  = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_CLUSTER
	local    = servicelbv1.TrafficPolicy_TRAFFIC_POLICY_LOCAL
	tcp      = servicelbv1.Protocol_PROTOCOL_TCP
	udp      = servicelbv1.Protocol_PROTOCOL_UDP
	sameZone = servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_SAME_ZONE
	sameNode = servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_SAME_NODE
)

// looking is the node of all tests.
var looking = serviceview.Node{Name: "n1", Zone: "z1"}

// web is a NodePort service with one TCP port.
func web(change ...func(*servicelbv1.Service)) *servicelbv1.Service {
	s := &servicelbv1.Service{
		Namespace: "shop", Name: "web", Type: servicelbv1.ServiceType_SERVICE_TYPE_NODE_PORT,
		ClusterIps: []string{"172.30.0.9"}, InternalTrafficPolicy: cluster, ExternalTrafficPolicy: cluster,
		Ports: []*servicelbv1.ServicePort{{Protocol: tcp, Port: 80, NodePort: 30080, TargetPort: "8080"}},
	}
	for _, f := range change {
		f(s)
	}
	return s
}

// at makes an endpoint 10.128.0.N from "N@node/zone state hints", of which all
// but N may be missing: "5@n1/z1 terminating zones=z1,z2".
func at(t *testing.T, text string) *servicelbv1.Endpoint {
	t.Helper()
	words := strings.Fields(text)
	number, place, _ := strings.Cut(words[0], "@")
	node, zone, _ := strings.Cut(place, "/")
	e := &servicelbv1.Endpoint{Addresses: []string{"10.128.0." + number}, NodeName: node, Zone: zone}
	state := func(ready, serving, terminating bool) {
		e.Conditions = &servicelbv1.EndpointConditions{Ready: &ready, Serving: &serving, Terminating: &terminating}
	}
	for _, word := range words[1:] {
		key, value, _ := strings.Cut(word, "=")
		if e.Hints == nil && value != "" {
			e.Hints = &servicelbv1.EndpointHints{}
		}
		switch key {
		case "ready":
			state(true, true, false)
		case "unready":
			state(false, false, false)
		case "terminating": // and serving
			state(false, true, true)
		case "dying": // terminating, and not serving
			state(false, false, true)
		case "zones":
			e.Hints.ForZones = strings.Split(value, ",")
		case "nodes":
			e.Hints.ForNodes = strings.Split(value, ",")
		default:
			t.Fatalf("no such word %q", word)
		}
	}
	return e
}

func slice(t *testing.T, endpoints ...string) *servicelbv1.EndpointSlice {
	t.Helper()
	s := &servicelbv1.EndpointSlice{
		Namespace: "shop", Name: "web-1", ServiceName: "web",
		Ports: []*servicelbv1.EndpointPort{{Protocol: tcp, Port: 8080}},
	}
	for _, text := range endpoints {
		s.Endpoints = append(s.Endpoints, at(t, text))
	}
	return s
}

// short writes backends as their last numbers, a draining one with a "~".
func short(backends []serviceview.Backend) string {
	var words []string
	for _, b := range backends {
		word := strings.TrimPrefix(b.Address.Addr().String(), "10.128.0.")
		if b.Draining {
			word += "~"
		}
		words = append(words, word)
	}
	return strings.Join(words, " ")
}

func TestWhichBackendsANodeUses(t *testing.T) {
	internalLocal := func(s *servicelbv1.Service) { s.InternalTrafficPolicy = local }
	externalLocal := func(s *servicelbv1.Service) { s.ExternalTrafficPolicy = local }
	distribution := func(d servicelbv1.TrafficDistribution) func(*servicelbv1.Service) {
		return func(s *servicelbv1.Service) { s.TrafficDistribution = d }
	}
	publish := func(s *servicelbv1.Service) { s.PublishNotReadyAddresses = true }
	inside := func(s *servicelbv1.Service) { s.Ports[0].NodePort = 0 }
	cases := []struct {
		name      string
		service   *servicelbv1.Service
		endpoints string // separated by ";"
		internal  string
		external  string
		anywhere  string
		any       bool
		local     int
	}{
		{"no endpoints at all", web(), "", "", "", "", false, 0},
		{"conditions that are not set mean ready", web(), "1@n1; 2@n2", "1 2", "1 2", "1 2", true, 1},
		{"one that is not ready is left out", web(), "1@n1 ready; 2@n2 unready", "1", "1", "1", true, 1},
		{"one that terminates is left out while others are ready", web(), "1@n1 terminating; 2@n2 ready", "2", "2", "2", true, 0},
		{"terminating ones that serve are used when nothing else is there", web(), "1@n1 terminating; 2@n2 terminating; 3@n3 unready", "1~ 2~", "1~ 2~", "1~ 2~", true, 0},
		{"terminating ones that do not serve are never used", web(), "1@n1 dying; 2@n2 unready", "", "", "", false, 0},
		{"addresses that are not ready, published", web(publish), "1@n1 unready; 2@n2 terminating; 3@n2 dying", "1 2 3", "1 2 3", "1 2 3", true, 1},
		{"endpoints on no node", web(), "1; 2@n1", "1 2", "1 2", "1 2", true, 1},

		{"internal Local: this node's", web(internalLocal), "1@n1; 2@n2", "1", "1 2", "1 2", true, 1},
		{"internal Local: none here, but elsewhere", web(internalLocal), "2@n2", "", "2", "2", true, 0},
		{"internal Local: none anywhere", web(internalLocal), "2@n2 unready", "", "", "", false, 0},
		{"internal Local: terminating here beats ready elsewhere", web(internalLocal), "1@n1 terminating; 2@n2", "1~", "2", "2", true, 0},
		{"internal Local: ready here beats terminating here", web(internalLocal), "1@n1 terminating; 3@n1", "3", "3", "3", true, 1},
		{"internal Local: an endpoint on no node is nobody's", web(internalLocal), "1", "", "1", "1", true, 0},

		{"external Local: this node's for those outside, all for those inside", web(externalLocal), "1@n1; 2@n2", "1 2", "1", "1 2", true, 1},
		{"external Local: none here", web(externalLocal), "2@n2", "2", "", "2", true, 0},
		{"external Local: terminating here", web(externalLocal), "1@n1 terminating; 2@n2", "2", "1~", "2", true, 0},
		{"external Local: terminating elsewhere is not ours", web(externalLocal), "2@n2 terminating", "2~", "", "2~", true, 0},
		{"both Local", web(internalLocal, externalLocal), "1@n1; 2@n2", "1", "1", "1 2", true, 1},
		{"not reached from outside", web(inside), "1@n1; 2@n2", "1 2", "", "", true, 1},

		{"zone hints: this zone's", web(), "1@n1 zones=z1; 2@n2 zones=z2; 3@n3 zones=z1,z2", "1 3", "1 3", "1 3", true, 1},
		{"zone hints: one ready endpoint without makes them void", web(), "1@n1 zones=z1; 2@n2 zones=z2; 3@n3", "1 2 3", "1 2 3", "1 2 3", true, 1},
		{"zone hints: one unready endpoint without changes nothing", web(), "1@n1 zones=z1; 2@n2 zones=z2; 3@n3 unready", "1", "1", "1", true, 1},
		{"zone hints: none for this zone", web(), "1@n1 zones=z2; 2@n2 zones=z3", "1 2", "1 2", "1 2", true, 1},
		{"zone hints: the one for this zone is not ready", web(), "1@n1 unready zones=z1; 2@n2 zones=z2", "2", "2", "2", true, 0},
		{"zone hints say nothing about draining ones", web(), "1@n1 terminating zones=z2; 2@n2 terminating zones=z1", "1~ 2~", "1~ 2~", "1~ 2~", true, 0},
		{"node hints beat zone hints", web(), "1@n2 zones=z1 nodes=n1; 2@n3 zones=z1 nodes=n2", "1", "1", "1", true, 0},
		{"node hints: none for this node, so the zone's", web(), "1@n2 zones=z1 nodes=n2; 2@n3 zones=z2 nodes=n3", "1", "1", "1", true, 0},
		{"hints do not soften Local", web(internalLocal), "1@n1 zones=z2; 2@n2 zones=z1", "1", "2", "2", true, 1},
		{"hints beat the distribution", web(distribution(sameZone)), "1@n1/z1 zones=z2; 2@n2/z2 zones=z1", "2", "2", "2", true, 1},

		{"same zone: this zone's", web(distribution(sameZone)), "1@n1/z1; 2@n2/z2; 3@n3/z1", "1 3", "1 3", "1 3", true, 1},
		{"same zone: none here, so all", web(distribution(sameZone)), "2@n2/z2; 3@n3/z3", "2 3", "2 3", "2 3", true, 0},
		{"same zone: those here are not ready", web(distribution(sameZone)), "1@n1/z1 unready; 2@n2/z2", "2", "2", "2", true, 0},
		{"same node: this node's", web(distribution(sameNode)), "1@n1/z1; 2@n2/z1; 3@n3/z2", "1", "1", "1", true, 1},
		{"same node: none here, so the zone's", web(distribution(sameNode)), "2@n2/z1; 3@n3/z2", "2", "2", "2", true, 0},
		{"same node: none here nor in the zone", web(distribution(sameNode)), "2@n2/z2; 3@n3/z3", "2 3", "2 3", "2 3", true, 0},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			var endpoints []string
			for text := range strings.SplitSeq(c.endpoints, ";") {
				if text != "" {
					endpoints = append(endpoints, text)
				}
			}
			v, err := serviceview.Compute(c.service, []*servicelbv1.EndpointSlice{slice(t, endpoints...)}, looking)
			if err != nil || len(v.Ports) != 1 {
				t.Fatalf("compute: %+v, %v", v, err)
			}
			p := v.Ports[0]
			got := fmt.Sprintf("internal %q external %q anywhere %q any %v local %d", short(p.Internal), short(p.External), short(p.Anywhere), p.Any, v.LocalReady)
			want := fmt.Sprintf("internal %q external %q anywhere %q any %v local %d", c.internal, c.external, c.anywhere, c.any, c.local)
			if got != want {
				t.Errorf("got  %s\nwant %s", got, want)
			}
		})
	}
}

func TestANodeWithoutZoneIgnoresZones(t *testing.T) {
	s := web(func(s *servicelbv1.Service) { s.TrafficDistribution = sameZone })
	for name, endpoints := range map[string][]string{
		"hints": {"1@n1 zones=z1", "2@n2 zones=z2"}, "distribution": {"1@n1", "2@n2/z2"},
	} {
		v, err := serviceview.Compute(s, []*servicelbv1.EndpointSlice{slice(t, endpoints...)}, serviceview.Node{Name: "n1"})
		if err != nil || short(v.Ports[0].Internal) != "1 2" {
			t.Errorf("%s: %v, %v", name, v, err)
		}
	}
}

func TestPortsMeetByNameAndProtocol(t *testing.T) {
	s := web(func(s *servicelbv1.Service) {
		s.Ports = []*servicelbv1.ServicePort{
			{Name: "dns", Protocol: udp, Port: 53}, {Name: "dns-tcp", Protocol: tcp, Port: 53}, {Name: "web", Protocol: tcp, Port: 80},
		}
	})
	one, two := slice(t, "1@n1"), slice(t, "2@n2")
	one.Ports = []*servicelbv1.EndpointPort{{Name: "dns", Protocol: udp, Port: 5353}, {Name: "dns-tcp", Protocol: udp, Port: 5353}, {Name: "web", Protocol: tcp, Port: 8080}}
	two.Name, two.Ports = "web-2", []*servicelbv1.EndpointPort{{Name: "dns", Protocol: udp, Port: 53}, {Name: "web", Protocol: tcp, Port: 0}}
	v, err := serviceview.Compute(s, []*servicelbv1.EndpointSlice{one, two}, looking)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, p := range v.Ports {
		got = append(got, fmt.Sprint(p.Name, " ", p.Internal))
	}
	want := "dns [{10.128.0.1:5353 n1 true false} {10.128.0.2:53 n2 false false}]; dns-tcp []; web [{10.128.0.1:8080 n1 true false}]"
	if text := strings.Join(got, "; "); text != want {
		t.Errorf("got  %s\nwant %s", text, want)
	}
}

func TestAnEndpointInTwoSlicesIsOneBackend(t *testing.T) {
	one, two := slice(t, "1@n1 unready", "2@n2 terminating"), slice(t, "1@n1 ready", "2@n2 ready")
	two.Name = "web-2"
	for _, order := range [][]*servicelbv1.EndpointSlice{{one, two}, {two, one}} {
		v, err := serviceview.Compute(web(), order, looking)
		if err != nil || short(v.Ports[0].Internal) != "1 2" || v.LocalReady != 1 {
			t.Errorf("%+v, %v", v, err)
		}
	}
}

func TestTheHeaderOfAView(t *testing.T) {
	s := web(func(s *servicelbv1.Service) {
		s.SessionAffinity = servicelbv1.SessionAffinity_SESSION_AFFINITY_CLIENT_IP
		s.SessionAffinityTimeoutSeconds = 90
		s.ExternalIps, s.LoadBalancerIps = []string{"192.0.2.7"}, []string{"198.51.100.1"}
		s.LoadBalancerSourceRanges = []string{"203.0.113.0/24"}
		s.ExternalTrafficPolicy, s.HealthCheckNodePort = local, 31000
	})
	v, err := serviceview.Compute(s, nil, looking)
	if err != nil {
		t.Fatal(err)
	}
	if v.Affinity != 90*time.Second || !v.ExternalLocal || v.InternalLocal || v.HealthCheckNodePort != 31000 ||
		fmt.Sprint(v.ClusterIPs, v.ExternalIPs, v.LoadBalancerIPs, v.SourceRanges) != "[172.30.0.9] [192.0.2.7] [198.51.100.1] [203.0.113.0/24]" {
		t.Errorf("got %+v", v)
	}
}

func TestHeadlessAndExternalNameProgramNothing(t *testing.T) {
	for name, change := range map[string]func(*servicelbv1.Service){
		"headless":      func(s *servicelbv1.Service) { s.ClusterIps = []string{serviceview.Headless} },
		"external name": func(s *servicelbv1.Service) { s.Type = servicelbv1.ServiceType_SERVICE_TYPE_EXTERNAL_NAME },
		"no cluster IP": func(s *servicelbv1.Service) { s.ClusterIps = nil },
	} {
		v, err := serviceview.Compute(web(change), []*servicelbv1.EndpointSlice{slice(t, "1@n1")}, looking)
		if err != nil || len(v.Ports) != 0 || len(v.ClusterIPs) != 0 {
			t.Errorf("%s: %+v, %v", name, v, err)
		}
	}
}

func TestAServiceThatCannotBeReadIsAnError(t *testing.T) {
	for name, change := range map[string]func(*servicelbv1.Service){
		"cluster IP":   func(s *servicelbv1.Service) { s.ClusterIps = []string{"x"} },
		"external IP":  func(s *servicelbv1.Service) { s.ExternalIps = []string{"x"} },
		"balancer IP":  func(s *servicelbv1.Service) { s.LoadBalancerIps = []string{"x"} },
		"source range": func(s *servicelbv1.Service) { s.LoadBalancerSourceRanges = []string{"x"} },
	} {
		if _, err := serviceview.Compute(web(change), nil, looking); err == nil || !strings.Contains(err.Error(), "shop/web") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEndpointsThatCannotBeReadAreLeftOut(t *testing.T) {
	s := slice(t, "1@n1", "2@n2", "3@n3", "4@n4")
	s.Endpoints[0].Addresses = nil
	s.Endpoints[1].Addresses = []string{"x"}
	s.Endpoints[2].Addresses = []string{"2001:db8::1"}
	v, err := serviceview.Compute(web(), []*servicelbv1.EndpointSlice{s, proto.CloneOf(s)}, looking)
	if err != nil || short(v.Ports[0].Internal) != "4" {
		t.Errorf("%+v, %v", v, err)
	}
}

func TestAServiceIsIdledWhileItHasTheAnnotationAndNoBackend(t *testing.T) {
	idled := func(s *servicelbv1.Service) {
		s.Annotations = map[string]string{serviceview.IdledAt: "2026-01-01T00:00:00Z"}
	}
	onNode := func(s *servicelbv1.Service) {
		idled(s)
		s.InternalTrafficPolicy, s.ExternalTrafficPolicy = local, local
	}
	headless := func(s *servicelbv1.Service) {
		idled(s)
		s.ClusterIps = []string{serviceview.Headless}
	}
	for _, c := range []struct {
		name      string
		change    func(*servicelbv1.Service)
		endpoints []string
		want      bool
	}{
		{"no annotation, no endpoint", func(*servicelbv1.Service) {}, nil, false},
		{"the annotation, no endpoint", idled, nil, true},
		{"an endpoint that is ready", idled, []string{"1@n9"}, false},
		{"one that is not ready yet", idled, []string{"1@n9 unready"}, true},
		{"one that serves to its end", idled, []string{"1@n9 terminating"}, false},
		{"one that no longer serves", idled, []string{"1@n9 dying"}, true},
		{"policies Local, and endpoints elsewhere", onNode, []string{"1@n9"}, false},
		{"headless", headless, nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			v, err := serviceview.Compute(web(c.change), []*servicelbv1.EndpointSlice{slice(t, c.endpoints...)}, looking)
			if err != nil || v.Idled != c.want {
				t.Errorf("got %v, %v, want %v", v.Idled, err, c.want)
			}
		})
	}
}
