package selectors

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/rpcerr"
	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/servicelb/catalog"
	"github.com/damask-sdn/damask/services/servicelb/spec"
)

const (
	tcp = tenancyv1.Protocol_PROTOCOL_TCP
	udp = tenancyv1.Protocol_PROTOCOL_UDP
)

var front = map[string]string{"app": "web"}

// having is a pod whose containers declare ports: "http=8080", or "dns=53/udp".
func having(name, ip string, declared ...string) *tenancyv1.Pod {
	p := pod(name, front, ip)
	for _, text := range declared {
		text, isUDP := strings.CutSuffix(text, "/udp")
		portName, number, _ := strings.Cut(text, "=")
		n, _ := strconv.ParseUint(number, 10, 32)
		port := &tenancyv1.ContainerPort{Name: portName, ContainerPort: uint32(n), Protocol: tcp}
		if isUDP {
			port.Protocol = udp
		}
		p.Ports = append(p.Ports, port)
	}
	return p
}

// backends answers what the slices say: for each port of the service, its
// backends in order.
func backends(list []*servicelbv1.EndpointSlice) map[string][]string {
	got := map[string][]string{}
	for _, s := range list {
		for _, p := range s.GetPorts() {
			for _, e := range s.GetEndpoints() {
				got[p.GetName()] = append(got[p.GetName()], fmt.Sprintf("%s:%d", e.GetAddresses()[0], p.GetPort()))
			}
		}
	}
	for _, list := range got {
		slices.Sort(list)
	}
	return got
}

func TestAPortByNameIsWhatEachPodCallsSo(t *testing.T) {
	cases := []struct {
		name    string
		targets []string
		pods    []*tenancyv1.Pod
		want    string // backends of each port
		slices  int
		unnamed string
	}{
		{
			"all mean the same", []string{"http"},
			[]*tenancyv1.Pod{having("a", "10.0.0.1", "http=8080"), having("b", "10.0.0.2", "admin=1", "http=8080")},
			"map[p0:[10.0.0.1:8080 10.0.0.2:8080]]", 1, "[]",
		},
		{
			"each means another", []string{"http"},
			[]*tenancyv1.Pod{having("a", "10.0.0.1", "http=8080"), having("b", "10.0.0.2", "http=9090"), having("c", "10.0.0.3", "http=8080")},
			"map[p0:[10.0.0.1:8080 10.0.0.2:9090 10.0.0.3:8080]]", 2, "[]",
		},
		{
			"one that lacks the name is left out", []string{"http"},
			[]*tenancyv1.Pod{having("a", "10.0.0.1", "http=8080"), having("b", "10.0.0.2"), having("c", "10.0.0.3", "web=8080")},
			"map[p0:[10.0.0.1:8080]]", 1, "[]",
		},
		{
			"of several ports only the one that it lacks", []string{"8443", "http"},
			[]*tenancyv1.Pod{having("a", "10.0.0.1", "http=8080"), having("b", "10.0.0.2")},
			"map[p0:[10.0.0.1:8443 10.0.0.2:8443] p1:[10.0.0.1:8080]]", 2, "[]",
		},
		{
			"the protocol counts", []string{"dns"},
			[]*tenancyv1.Pod{having("a", "10.0.0.1", "dns=5353/udp"), having("b", "10.0.0.2", "dns=5353/udp", "dns=53")},
			"map[p0:[10.0.0.2:53]]", 1, "[]",
		},
		{
			"of a name that is there twice the first counts", []string{"http"},
			[]*tenancyv1.Pod{having("a", "10.0.0.1", "http=1", "http=2")},
			"map[p0:[10.0.0.1:1]]", 1, "[]",
		},
		{
			"nobody has it", []string{"8443", "http", "metrics"},
			[]*tenancyv1.Pod{having("a", "10.0.0.1", "metrics=9")},
			"map[p0:[10.0.0.1:8443] p2:[10.0.0.1:9]]", 1, "[http]",
		},
		{"there are no pods", []string{"http"}, nil, "map[]", 0, "[]"},
		{"a number needs no declaration", []string{"8080"}, []*tenancyv1.Pod{having("a", "10.0.0.1")}, "map[p0:[10.0.0.1:8080]]", 1, "[]"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			out := compile(web(front, c.targets...), c.pods, nil)
			if got := fmt.Sprint(backends(out.slices)); got != c.want {
				t.Errorf("backends %s, want %s", got, c.want)
			}
			if got := fmt.Sprint(out.unnamed); len(out.slices) != c.slices || got != c.unnamed {
				t.Errorf("%d slices, %s that nobody has, want %d, %s", len(out.slices), got, c.slices, c.unnamed)
			}
		})
	}
	headless := web(front)
	headless.ClusterIps = []string{"None"}
	if out := compile(headless, []*tenancyv1.Pod{having("a", "10.0.0.1")}, nil); len(out.slices) != 1 || len(out.slices[0].GetPorts()) != 0 {
		t.Errorf("a headless service without ports has no ports, but addresses: %v", out.slices)
	}
}

// TestSlicesSayOfEachPodWhatItHas compares slices with what each pod says, for
// random services and pods.
func TestSlicesSayOfEachPodWhatItHas(t *testing.T) {
	targets := rapid.SliceOfN(rapid.SampledFrom([]string{"80", "81", "http", "admin", "dns"}), 1, 3)
	declared := rapid.SliceOfN(rapid.SampledFrom([]string{"http=1", "http=2", "http=1/udp", "admin=3", "admin=4", "dns=5"}), 0, 4)
	rapid.Check(t, func(rt *rapid.T) {
		service := web(front, targets.Draw(rt, "targets")...)
		var pods []*tenancyv1.Pod
		want, there := map[string][]string{}, map[string]bool{}
		for i := range rapid.IntRange(0, 230).Draw(rt, "pods") {
			p := having(fmt.Sprintf("p%03d", i), fmt.Sprintf("10.0.%d.%d", i/250, i%250), declared.Draw(rt, "declared")...)
			pods = append(pods, p)
			for _, port := range service.GetPorts() {
				number, _ := strconv.Atoi(port.GetTargetPort())
				for _, d := range p.GetPorts() {
					if number == 0 && d.GetName() == port.GetTargetPort() && d.GetProtocol() == tcp {
						number = int(d.GetContainerPort())
					}
				}
				if number != 0 {
					want[port.GetName()] = append(want[port.GetName()], fmt.Sprintf("%s:%d", p.GetIps()[0], number))
					there[p.GetName()] = true
				}
			}
		}
		for _, list := range want {
			slices.Sort(list)
		}
		out := compile(service, rapid.Permutation(pods).Draw(rt, "order"), nil)
		if got := backends(out.slices); !maps.EqualFunc(got, want, slices.Equal[[]string]) {
			rt.Fatalf("backends %v, want %v", got, want)
		}
		names, endpoints := map[string]bool{}, 0
		for _, s := range out.slices {
			var v rpcerr.Violations
			spec.CheckSlice(s, &v)
			if err := v.Err("test"); err != nil || len(s.GetEndpoints()) > perSlice {
				rt.Fatalf("%d endpoints, %v", len(s.GetEndpoints()), err)
			}
			names[s.GetName()] = true
			endpoints += len(s.GetEndpoints())
		}
		if len(names) != len(out.slices) || endpoints != len(there) {
			rt.Fatalf("%d slices of %d names, %d endpoints of %d pods", len(out.slices), len(names), endpoints, len(there))
		}
	})
}

func TestSlicesOfOtherNumbersAreLeftAlone(t *testing.T) {
	service := web(front, "http")
	pods := []*tenancyv1.Pod{having("a", "10.0.0.1", "http=8080"), having("b", "10.0.0.2", "http=8081")}
	before := compile(service, pods, nil).slices
	after := compile(service, append(pods, having("0", "10.0.0.3", "http=1"), having("c", "10.0.0.4", "http=8081")), nil).slices
	same := 0
	for _, s := range before {
		if slices.ContainsFunc(after, func(other *servicelbv1.EndpointSlice) bool { return proto.Equal(s, other) }) {
			same++
		}
	}
	if len(before) != 2 || len(after) != 3 || same != 1 {
		t.Errorf("of %d slices %d are as they were, and there are %d", len(before), same, len(after))
	}
}

func TestMorePortsThanSlicesLeaveTheRarestOut(t *testing.T) {
	pods := []*tenancyv1.Pod{having("common-a", "10.1.0.1", "http=1"), having("common-b", "10.1.0.2", "http=1")}
	for i := range catalog.MaxManaged {
		pods = append(pods, having(fmt.Sprintf("p%03d", i), fmt.Sprintf("10.0.0.%d", i), fmt.Sprintf("http=%d", 1000+i)))
	}
	out := compile(web(front, "http"), pods, nil)
	if len(out.slices) != catalog.MaxManaged || out.excess != 1 || len(out.slices[0].GetEndpoints()) != 2 {
		t.Errorf("%d slices, %d endpoints too many, the first slice has %d", len(out.slices), out.excess, len(out.slices[0].GetEndpoints()))
	}
}

func TestConditionsAreThoseOfKubernetes(t *testing.T) {
	yes, no := proto.Bool(true), proto.Bool(false)
	for _, c := range []struct {
		name    string
		said    *tenancyv1.PodConditions
		publish bool
		want    string // ready, serving, terminating
	}{
		{"nothing was said", nil, false, "true true false"},
		{"ready", &tenancyv1.PodConditions{Ready: yes}, false, "true true false"},
		{"not ready", &tenancyv1.PodConditions{Ready: no}, false, "false false false"},
		{"on its way out", &tenancyv1.PodConditions{Terminating: yes}, false, "false true true"},
		{"on its way out and not ready any more", &tenancyv1.PodConditions{Ready: no, Terminating: yes}, false, "false false true"},
		{"not ready, but published", &tenancyv1.PodConditions{Ready: no}, true, "true false false"},
		{"on its way out, but published", &tenancyv1.PodConditions{Terminating: yes}, true, "true true true"},
	} {
		t.Run(c.name, func(t *testing.T) {
			p, service := pod("a", front, "10.0.0.1"), web(front, "8080")
			p.Conditions, p.Zone, service.PublishNotReadyAddresses = c.said, "west", c.publish
			e := compile(service, []*tenancyv1.Pod{p}, nil).slices[0].GetEndpoints()[0]
			if got := fmt.Sprint(e.GetConditions().GetReady(), e.GetConditions().GetServing(), e.GetConditions().GetTerminating()); got != c.want {
				t.Errorf("ready, serving, terminating: %s, want %s", got, c.want)
			}
			if e.GetNodeName() != "n1" || e.GetZone() != "west" || e.GetHints() != nil {
				t.Errorf("endpoint %v", e)
			}
		})
	}
}

func TestMissingEndpointsAreSaidOnce(t *testing.T) {
	var logged bytes.Buffer
	name := catalog.Name{Namespace: "shop", Name: "web"}
	m := &memory{services: map[catalog.Name]*servicelbv1.Service{name: web(front, "http")}, slices: map[catalog.Name]int{}}
	l := newLoop(m, NewDirty(), hclog.New(&hclog.LoggerOptions{Output: &logged}))
	look := func(p *tenancyv1.Pod) int {
		t.Helper()
		logged.Reset()
		l.board.setPod("shop", "a", 0, func() *tenancyv1.Pod { return p })
		if err := l.look(t.Context(), name, true); err != nil {
			t.Fatal(err)
		}
		return strings.Count(logged.String(), "no pod has a container port of the name http")
	}
	nameless, named := having("a", "10.0.0.1"), having("a", "10.0.0.1", "http=80")
	for i, want := range []int{1, 0, 0, 1} {
		p := nameless
		if i == 2 {
			p = named
		}
		if got := look(p); got != want {
			t.Errorf("look %d says it %d times, want %d", i, got, want)
		}
	}
}
