package intent

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// group is the other side of a random history of multicast: plain facts, and who must
// hear whom by them.
type group struct {
	vnids   map[string]uint32
	enabled map[string]bool
	pods    map[string]Pod
	nodes   map[string]string // Other nodes and their addresses.
	flat    bool
}

// takes says whether a pod takes part, and in which VNID.
func (g *group) takes(p Pod) (vnid uint32, takes bool) {
	vnid, known := g.vnids[p.Namespace]
	return vnid, known && g.enabled[p.Namespace] && !g.flat
}

// hearers are the ports at which multicast of a VNID must arrive.
func (g *group) hearers(vnid uint32) []uint32 {
	var ports []uint32
	for _, p := range g.pods {
		if of, takes := g.takes(p); takes && of == vnid {
			ports = append(ports, p.Port)
		}
	}
	slices.Sort(ports)
	return ports
}

// step changes the group and the state alike.
func (g *group) step(t *testing.T, random *rand.Rand, s *State) Change {
	t.Helper()
	names := []string{"red", "blue", "green"}
	ns := names[random.IntN(len(names))]
	node := fmt.Sprintf("n%d", random.IntN(6))
	switch random.IntN(10) {
	case 0, 1, 2:
		g.vnids[ns], g.enabled[ns] = uint32(random.IntN(3)), random.IntN(3) > 0
		nn := namespace(ns, g.vnids[ns], 1)
		nn.MulticastEnabled = g.enabled[ns]
		return s.SetNetNamespace(nn)
	case 3:
		delete(g.vnids, ns)
		delete(g.enabled, ns)
		return s.DeleteNetNamespace(ns)
	case 4:
		g.nodes[node] = fmt.Sprintf("192.0.2.%d", 100+random.IntN(2)*10+int(node[1]-'0'))
		change, err := s.SetHostSubnet(hostSubnet(node, g.nodes[node], fmt.Sprintf("10.129.%d.0/24", node[1]), 1))
		if err != nil {
			t.Fatal(err)
		}
		return change
	case 5:
		delete(g.nodes, node)
		return s.DeleteHostSubnet(node)
	case 6:
		g.flat = random.IntN(3) == 0
		change, err := s.SetIsolation(isolation(!g.flat, 1))
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
	i := random.IntN(8)
	for owner, p := range g.pods {
		if p.Name == podNumber(i, "").Name {
			if random.IntN(3) == 0 { // It is attached again, and the switch has another port for it.
				p.Port = podNumber(i, "").Port + 100*uint32(random.IntN(3))
				g.pods[owner] = p
				return s.AddPod(p)
			}
			delete(g.pods, owner)
			return s.RemovePod(p)
		}
	}
	p := podNumber(i, ns)
	g.pods[p.Owner()] = p
	return s.AddPod(p)
}

var outputs = regexp.MustCompile(`output:(\d+)`)

// ports are where the one flow of a table that takes multicast of a VNID leads.
func ports(flows []openflow.Flow, table uint8, vnid uint32) []uint32 {
	var all []uint32
	for _, f := range flows {
		text := f.String()
		if f.Table != table || !strings.Contains(text, "reg0="+hex(vnid)+" ") {
			continue
		}
		for _, found := range outputs.FindAllStringSubmatch(text, -1) {
			port, _ := strconv.Atoi(found[1])
			all = append(all, uint32(port))
		}
	}
	return all
}

func hex(vnid uint32) string {
	if vnid == 0 {
		return "0"
	}
	return fmt.Sprintf("0x%x", vnid)
}

// senders are the ports at which multicast of a VNID may start.
func senders(flows []openflow.Flow, vnid uint32) []uint32 {
	var all []uint32
	for _, f := range flows {
		if f.Table == 110 && strings.Contains(f.String(), "reg0="+hex(vnid)+",in_port=") {
			_, port, _ := strings.Cut(strings.Fields(f.String())[1], "in_port=")
			number, _ := strconv.Atoi(port)
			all = append(all, uint32(number))
		}
	}
	slices.Sort(all)
	return all
}

// flooded are the nodes that multicast is sent to, each as often as it is.
func flooded(flows []openflow.Flow) []string {
	to := regexp.MustCompile(`set_field:([0-9.]+)->tun_dst,output:1`)
	var all []string
	for _, f := range flows {
		if f.Table == 111 {
			for _, found := range to.FindAllStringSubmatch(f.String(), -1) {
				all = append(all, found[1])
			}
		}
	}
	slices.Sort(all)
	return all
}

// TestRandomHistoriesOfMulticastReachWhomTheyMust changes namespaces, nodes, pods and
// the mode at random. After each change the flows that changed must make what a
// comparison of everything would, and lead to whom plain facts say.
func TestRandomHistoriesOfMulticastReachWhomTheyMust(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 2))
		s := known(t, true)
		g := &group{vnids: map[string]uint32{}, enabled: map[string]bool{}, pods: map[string]Pod{}, nodes: map[string]string{}}
		sw := s.CompileAll()
		for step := range 150 {
			change := g.step(t, random, s)
			owners := change.Owners
			if change.All {
				sw = s.CompileAll()
			}
			for _, owner := range owners {
				sw[owner] = s.compile(owner)
			}
			where := fmt.Sprintf("seed %d, step %d", seed, step)
			flows := installed(t, where, sw, s.CompileAll())
			anybody := false
			for vnid := range uint32(3) {
				want := g.hearers(vnid)
				anybody = anybody || len(want) > 0
				if got := ports(flows, 120, vnid); !slices.Equal(got, want) {
					t.Fatalf("%s: multicast of VNID %d reaches ports %d, want %d", where, vnid, got, want)
				}
				if got := senders(flows, vnid); !slices.Equal(got, want) {
					t.Fatalf("%s: multicast of VNID %d may start at ports %d, want %d", where, vnid, got, want)
				}
				seen[fmt.Sprintf("%d hear", len(want))]++
			}
			var want []string
			if anybody {
				want = slices.Sorted(maps.Values(g.nodes))
			}
			if got := flooded(flows); !slices.Equal(got, want) && (anybody || !g.flat) {
				t.Fatalf("%s: the nodes %q are sent to, want %q", where, got, want)
			}
			seen[fmt.Sprintf("%d nodes", len(want))]++
		}
	}
	for _, must := range []string{"0 hear", "1 hear", "3 hear", "0 nodes", "3 nodes"} {
		if seen[must] < 20 {
			t.Errorf("the histories had %q %d times: %v", must, seen[must], seen)
		}
	}
}

// TestMulticastThatNobodyHasCostsNothing: other nodes' changes concern their own flows
// only, until a pod here may send.
func TestMulticastThatNobodyHasCostsNothing(t *testing.T) {
	s := known(t, true)
	s.SetNetNamespace(namespace("red", 40, 1))
	s.AddPod(podNumber(1, "red"))
	node := func(revision uint64) []string {
		change, err := s.SetHostSubnet(hostSubnet("n1", "192.0.2.9", "10.129.0.0/24", revision))
		if err != nil {
			t.Fatal(err)
		}
		return change.Owners
	}
	if got := node(1); !slices.Equal(got, []string{"hostsubnet n1"}) {
		t.Errorf("a node's change concerns %q", got)
	}
	enabled := namespace("red", 40, 2)
	enabled.MulticastEnabled = true
	if got := s.SetNetNamespace(enabled).Owners; len(got) != 33 || !slices.Contains(got, "multicast vnid 40") {
		t.Errorf("enabling concerns %q, want the VNID's multicast and all parts, and no pod", got)
	}
	if got := node(2); len(got) != 2 {
		t.Errorf("a node's change concerns %q, want its own and its part", got)
	}
	if got := s.AddPod(podNumber(2, "red")).Owners; len(got) != 3 || !slices.Contains(got, "multicast vnid 40") {
		t.Errorf("a pod's change concerns %q, want its own, the VNID and its multicast", got)
	}
}
