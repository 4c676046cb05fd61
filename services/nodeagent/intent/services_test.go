package intent

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// anyService draws a service with cluster IPs and node ports that another may claim too.
func anyService(random *rand.Rand, namespaces []string) Service {
	s := Service{Namespace: namespaces[random.IntN(len(namespaces))], Name: string(rune('a' + random.IntN(3)))}
	for range random.IntN(3) {
		s.ClusterIPs = append(s.ClusterIPs, netip.AddrFrom4([4]byte{172, 30, 0, byte(1 + random.IntN(3))}))
	}
	for range random.IntN(3) {
		s.Ports = append(s.Ports, pipeline.ServicePort{Protocol: pipeline.UDP, Port: uint16(1 + random.IntN(3))})
	}
	for range random.IntN(3) {
		s.NodePorts = append(s.NodePorts, pipeline.ServicePort{Protocol: pipeline.UDP, Port: uint16(30001 + random.IntN(3))})
	}
	return s
}

func service(namespace, name, ip string, port uint16) Service {
	return Service{
		Namespace: namespace, Name: name, ClusterIPs: []netip.Addr{netip.MustParseAddr(ip)},
		Ports: []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: port}},
	}
}

// known is a state with a network, and the mode.
func known(t *testing.T, multitenant bool) *State {
	t.Helper()
	s := NewState("self", true)
	_, err := s.SetClusterNetwork(plan1())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetHostSubnet(hostSubnet("self", "192.0.2.1", "10.128.0.0/23", 2)); err != nil {
		t.Fatal(err)
	}
	if _, err := s.SetIsolation(isolation(multitenant, 3)); err != nil {
		t.Fatal(err)
	}
	return s
}

// atNodePort is a service that is asked at a node port alone.
func atNodePort(namespace, name string, port uint16) Service {
	return Service{Namespace: namespace, Name: name, NodePorts: []pipeline.ServicePort{{Protocol: pipeline.TCP, Port: port}}}
}

// shown are the flows that a service has.
func shown(s *State, namespace, name string) string {
	var all []string
	for _, f := range s.compile(serviceOwner(namespace, name)) {
		all = append(all, f.String())
	}
	return strings.Join(all, "\n")
}

func TestAServiceIsOpenToTenantsOnceItsNamespaceIsKnown(t *testing.T) {
	s := known(t, true)
	change := s.SetService(service("red", "web", "172.30.0.9", 80))
	if !slices.Equal(change.Owners, []string{"service red/web"}) {
		t.Errorf("the change touches %q", change.Owners)
	}
	if got := shown(s, "red", "web"); got != "" {
		t.Errorf("before the VNID is known it has %s", got)
	}
	if change := s.SetNetNamespace(namespace("red", 42, 4)); !slices.Contains(change.Owners, "service red/web") {
		t.Errorf("the VNID's arrival touches %q", change.Owners)
	}
	const want = "table=60, priority=100,tcp,nw_dst=172.30.0.9,tp_dst=80 actions=load:0x2a->NXM_NX_REG1[]"
	if got := shown(s, "red", "web"); !strings.HasPrefix(got, want) {
		t.Errorf("it has %s", got)
	}
	if change := s.SetService(service("red", "web", "172.30.0.9", 80)); !change.empty() {
		t.Errorf("the same once more changes %v", change)
	}
	if change := s.SetNetNamespace(namespace("red", 43, 5)); !slices.Contains(change.Owners, "service red/web") ||
		!strings.Contains(shown(s, "red", "web"), "load:0x2b->NXM_NX_REG1[]") {
		t.Errorf("after the move, which touches %q, it has %s", change.Owners, shown(s, "red", "web"))
	}
	if change := s.DeleteNetNamespace("red"); !slices.Contains(change.Owners, "service red/web") || shown(s, "red", "web") != "" {
		t.Errorf("without its namespace, whose end touches %q, it has %s", change.Owners, shown(s, "red", "web"))
	}
	if change := s.DeleteService("red", "web"); !slices.Equal(change.Owners, []string{"service red/web"}) {
		t.Errorf("its end touches %q", change.Owners)
	}
	if change := s.DeleteService("red", "web"); !change.empty() {
		t.Errorf("its second end changes %v", change)
	}
}

func TestANodePortIsClosedToTenantsUntilItsNamespaceIsKnown(t *testing.T) {
	s := known(t, true)
	has := func(vnid string) {
		t.Helper()
		want := "table=61, priority=100,tcp,tp_dst=30080 actions=load:" + vnid + "->NXM_NX_REG1[]"
		if got := shown(s, "red", "web"); !strings.HasPrefix(got, want) {
			t.Errorf("it has %q, want %s", got, want)
		}
	}
	if change := s.SetService(atNodePort("red", "web", 30080)); !slices.Equal(change.Owners, []string{"service red/web"}) {
		t.Errorf("the change touches %q", change.Owners)
	}
	has("0x1000000")
	s.SetNetNamespace(namespace("red", 42, 4))
	has("0x2a")
	s.DeleteNetNamespace("red")
	has("0x1000000")
	if change := s.SetService(atNodePort("red", "web", 30081)); change.empty() || strings.Contains(shown(s, "red", "web"), "30080") {
		t.Errorf("after another port, which touches %q, it has %s", change.Owners, shown(s, "red", "web"))
	}
}

func TestOneOfTwoServicesHasWhatBothClaim(t *testing.T) {
	for what, claim := range map[string]func(namespace, name string) Service{
		"a cluster IP": func(namespace, name string) Service { return service(namespace, name, "172.30.0.9", 80) },
		"a node port":  func(namespace, name string) Service { return atNodePort(namespace, name, 30080) },
	} {
		t.Run(what, func(t *testing.T) {
			s := known(t, true)
			s.SetNetNamespace(namespace("red", 42, 4))
			s.SetNetNamespace(namespace("blue", 43, 5))
			s.SetService(claim("red", "b"))
			change := s.SetService(claim("blue", "a"))
			if !slices.Equal(change.Owners, []string{"service blue/a", "service red/b"}) {
				t.Errorf("the second claim touches %q, want both", change.Owners)
			}
			if shown(s, "blue", "a") == "" || shown(s, "red", "b") != "" {
				t.Errorf("both claim: %s\nand %s", shown(s, "blue", "a"), shown(s, "red", "b"))
			}
			change = s.DeleteService("blue", "a")
			if !slices.Equal(change.Owners, []string{"service blue/a", "service red/b"}) || shown(s, "red", "b") == "" {
				t.Errorf("after the first is gone, which touches %q, the other has %q", change.Owners, shown(s, "red", "b"))
			}
		})
	}
}

func TestNoTwoOwnersEverWantOneFlow(t *testing.T) {
	for seed := range uint64(20) {
		random := rand.New(rand.NewPCG(seed, seed))
		s := known(t, true)
		namespaces := []string{"red", "blue"}
		for i, ns := range namespaces {
			s.SetNetNamespace(namespace(ns, uint32(40+i), uint64(i)))
		}
		for range 200 {
			before := s.CompileAll()
			var change Change
			if service := anyService(random, namespaces); random.IntN(3) == 0 {
				change = s.DeleteService(service.Namespace, service.Name)
			} else {
				change = s.SetService(service)
			}
			owners := map[openflow.Key]string{}
			after := s.CompileAll()
			for owner, flows := range after {
				if !slices.EqualFunc(flows, before[owner], openflow.Flow.Equal) && !slices.Contains(change.Owners, owner) {
					t.Fatalf("seed %d: %s has changed, and the change names %q", seed, owner, change.Owners)
				}
				for _, f := range flows {
					if other := owners[f.Key()]; other != "" {
						t.Fatalf("seed %d: %s and %s both have %s", seed, other, owner, f)
					}
					owners[f.Key()] = owner
				}
			}
			for owner := range before {
				if after[owner] == nil && !slices.Contains(change.Owners, owner) {
					t.Fatalf("seed %d: %s has no flows any more, and the change names %q", seed, owner, change.Owners)
				}
			}
		}
	}
}

func TestNamespacesOfServicesAreTold(t *testing.T) {
	s := known(t, true)
	told := func(what string, want bool) {
		t.Helper()
		select {
		case <-s.ServiceNamespacesChanged():
			if !want {
				t.Errorf("%s: told", what)
			}
		default:
			if want {
				t.Errorf("%s: not told", what)
			}
		}
	}
	namespaces := func(want ...string) {
		t.Helper()
		if got := s.ServiceNamespaces(); !slices.Equal(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	told("the mode", false)
	s.SetService(service("red", "a", "172.30.0.1", 80))
	told("the first service", true)
	s.SetService(service("red", "b", "172.30.0.2", 80))
	s.SetService(service("red", "b", "172.30.0.2", 81))
	told("more of a namespace", false)
	s.SetService(service("blue", "c", "172.30.0.3", 80))
	s.DeleteService("red", "a")
	told("another namespace", true)
	namespaces("blue", "red")
	s.DeleteService("red", "b")
	told("the last service of a namespace", true)
	namespaces("blue")
	if _, err := s.SetIsolation(isolation(false, 9)); err != nil {
		t.Fatal(err)
	}
	told("subnet mode", false)
	namespaces("blue") // for the day when the mode changes back
	if change := s.SetService(service("blue", "c", "172.30.0.3", 81)); !change.empty() || shown(s, "blue", "c") != "" {
		t.Errorf("in subnet mode a service changes %v and has %s", change, shown(s, "blue", "c"))
	}
}

func TestTheAddressesOfOtherNodesAreKnown(t *testing.T) {
	s := NewState("self", true)
	for _, hs := range []*ipamv1.HostSubnet{
		hostSubnet("self", "192.0.2.1", "10.128.0.0/23", 1), hostSubnet("node2", "192.0.2.2", "10.129.0.0/23", 2), hostSubnet("node3", "192.0.2.3", "10.130.0.0/23", 3),
	} {
		if _, err := s.SetHostSubnet(hs); err != nil {
			t.Fatal(err)
		}
	}
	s.DeleteHostSubnet("node3")
	for node, want := range map[string]string{"node2": "192.0.2.2", "self": "", "node3": "", "": ""} {
		host, known := s.HostOf(node)
		if known != (want != "") || known && host.String() != want {
			t.Errorf("%q: %v, %t, want %q", node, host, known, want)
		}
	}
}
