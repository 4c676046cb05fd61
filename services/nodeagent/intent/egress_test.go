package intent

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/egressmark"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// assignment is one of a selection, of addresses "IP@node" that are hosted there.
func assignment(namespace, selection string, vnid uint32, order uint32, addresses ...string) *egressv1.EgressAssignment {
	a := &egressv1.EgressAssignment{Namespace: namespace, Selection: selection, Netid: &vnid, Order: order, Revision: 7}
	for _, text := range addresses {
		ip, node, _ := strings.Cut(text, "@")
		told := &egressv1.AssignedAddress{Ip: ip, Node: node, State: egressv1.AddressState_ADDRESS_STATE_HOSTED, NodeIp: nodeIPs[node]}
		if node == "" {
			told.State = egressv1.AddressState_ADDRESS_STATE_UNHOSTED
		}
		a.Addresses = append(a.Addresses, told)
	}
	return a
}

var nodeIPs = map[string]string{"self": "192.0.2.1", "n2": "192.0.2.2", "n3": "192.0.2.3"}

// leaves says where a pod's packet to outside goes, by the flows of tables 100: each
// place once, sorted; "node" is out by tun0 without a mark. Of several flows the highest
// priority counts; the picking of several is left open.
func leaves(flows []openflow.Flow, inPort int, ip netip.Addr, vnid uint32) []string {
	var hits []string
	best := 0
	for _, f := range flows {
		text := f.String()
		if f.Table != 100 || !matchesPacket(text, inPort, ip, vnid) || int(f.Priority) < best {
			continue
		}
		if int(f.Priority) > best || best == 0 {
			best, hits = int(f.Priority), nil
		}
		_, actions, _ := strings.Cut(text, " actions=")
		switch {
		case actions == "drop":
			hits = append(hits, "drop")
		case strings.Contains(actions, "->tun_dst"):
			hits = append(hits, between(actions, "set_field:", "->tun_dst"))
		case strings.Contains(actions, "->eth_src"):
			hits = append(hits, "mark "+regexp.MustCompile(`([0-9a-f:]{17})->eth_src`).FindStringSubmatch(actions)[1])
		case actions == "goto_table:101":
			hits = append(hits, "node")
		}
	}
	slices.Sort(hits)
	return hits
}

func between(text, before, after string) string {
	_, text, _ = strings.Cut(text, before)
	text, _, _ = strings.Cut(text, after)
	return text
}

var (
	inPortOf = regexp.MustCompile(`[ ,]in_port=(\d+)`)
	sourceOf = regexp.MustCompile(`[ ,]nw_src=([\d.]+)`)
	vnidOf   = regexp.MustCompile(`[ ,]reg0=(\w+)`)
)

func matchesPacket(text string, inPort int, ip netip.Addr, vnid uint32) bool {
	match, _, _ := strings.Cut(text, " actions=")
	if strings.Contains(match, "nw_dst=") || strings.Contains(match, "ct_state=") {
		return false // Other destinations; and what only picks.
	}
	fits := func(pattern *regexp.Regexp, values ...string) bool {
		found := pattern.FindStringSubmatch(match)
		return found == nil || slices.Contains(values, found[1])
	}
	return fits(inPortOf, fmt.Sprint(inPort)) && fits(sourceOf, ip.String()) && fits(vnidOf, fmt.Sprintf("%#x", vnid), fmt.Sprint(vnid))
}

func mac(t *testing.T, vnid, slot uint32) string {
	t.Helper()
	mark, err := egressmark.Of(vnid, slot, egressmark.Reserved{})
	if err != nil {
		t.Fatal(err)
	}
	return "mark " + egressmark.MAC(mark).String()
}

// everything is what the switch has.
func everything(s *State) []openflow.Flow {
	var flows []openflow.Flow
	for _, f := range s.CompileAll() {
		flows = append(flows, f...)
	}
	return flows
}

func TestAPodIsClosedUntilItsNamespacesEgressIsKnown(t *testing.T) {
	s := known(t, true)
	s.FollowEgress(egressmark.Reserved{})
	s.SetNetNamespace(namespace("red", 42, 4))
	pod := podNumber(1, "red")
	if change := s.AddPod(pod); !slices.Contains(change.Owners, pod.Owner()) {
		t.Fatalf("the pod touches %q", change.Owners)
	}
	where := func(want ...string) {
		t.Helper()
		if got := leaves(everything(s), int(pod.Port), pod.IP, 42); !slices.Equal(got, want) {
			t.Errorf("it leaves by %q, want %q", got, want)
		}
		// What a service leads outside does not see these flows.
		if j := s.Judged()[0]; slices.Contains(j.Pods, pod.IP) != slices.Contains(want, "node") || len(j.Pods)+len(j.Moved) != 1 {
			t.Errorf("when it leaves by %q it is judged as %+v", want, j)
		}
	}
	set := func(assignments ...*egressv1.EgressAssignment) Change {
		t.Helper()
		change, err := s.SetEgress("red", 7, assignments)
		if err != nil {
			t.Fatal(err)
		}
		return change
	}
	where("drop")
	if change := set(); !slices.Equal(change.Owners, []string{pod.Owner()}) {
		t.Errorf("that it has none touches %q", change.Owners)
	}
	where("node")
	if change := set(assignment("red", "default", 42, 0, "192.0.2.100@n2")); !slices.Equal(change.Owners, []string{"egress vnid 42", pod.Owner()}) {
		t.Errorf("that it has one touches %q", change.Owners)
	}
	where("192.0.2.2")
	set(assignment("red", "default", 42, 0, "192.0.2.100@n2", "192.0.2.101@n3"))
	where("192.0.2.2", "192.0.2.3")
	set(assignment("red", "default", 42, 0, "192.0.2.100"))
	where("drop")
	set(assignment("red", "default", 43, 0, "192.0.2.100@n2"))
	where("drop") // The hosting node knows another VNID.
	set(assignment("red", "default", 42, 0, "192.0.2.100@self"))
	where("drop") // Not ready.
	if _, err := s.SetEgressHosting(7, []*egressv1.HostedAddress{{Ip: "192.0.2.100", Namespace: "red", Selection: "default", Netid: 42}}); err != nil {
		t.Fatal(err)
	}
	where(mac(t, 42, 0))
	if revision, ok := s.Revision(Object{KindEgress, "red"}); !ok || revision != 7 {
		t.Errorf("revision %d, %t", revision, ok)
	}
	s.ForgetEgress("red")
	where("drop")
}

func TestWithoutAnybodyToTellPodsLeaveAsTheNode(t *testing.T) {
	s := known(t, true)
	s.SetNetNamespace(namespace("red", 42, 4))
	pod := podNumber(1, "red")
	s.AddPod(pod)
	if got := leaves(everything(s), int(pod.Port), pod.IP, 42); !slices.Equal(got, []string{"node"}) {
		t.Errorf("it leaves by %q", got)
	}
}

func TestWithoutTenantsEgressIPsCloseTheirPods(t *testing.T) {
	s := known(t, false)
	s.FollowEgress(egressmark.Reserved{})
	s.SetNetNamespace(namespace("red", 42, 4))
	s.SetNetNamespace(namespace("blue", 43, 4))
	red, blue := podNumber(1, "red"), podNumber(2, "blue")
	s.AddPod(red)
	s.AddPod(blue)
	for ns, assignments := range map[string][]*egressv1.EgressAssignment{"red": {assignment("red", "default", 42, 0, "192.0.2.100@n2")}, "blue": nil} {
		if _, err := s.SetEgress(ns, 7, assignments); err != nil {
			t.Fatal(err)
		}
	}
	if got := leaves(everything(s), int(red.Port), red.IP, 0); !slices.Equal(got, []string{"drop"}) {
		t.Errorf("red leaves by %q", got)
	}
	if got := leaves(everything(s), int(blue.Port), blue.IP, 0); !slices.Equal(got, []string{"node"}) {
		t.Errorf("blue leaves by %q", got)
	}
}

func TestWhatCannotBeReadLeavesEgressAsItWas(t *testing.T) {
	s := known(t, true)
	s.FollowEgress(egressmark.Reserved{})
	bad := assignment("red", "default", 42, 0, "192.0.2.100@nobody")
	if change, err := s.SetEgress("red", 7, []*egressv1.EgressAssignment{bad}); err == nil || len(change.Owners) > 0 {
		t.Errorf("an address without a node: %v, touches %q", err, change.Owners)
	}
	if _, err := s.SetEgressPods(&egressv1.EgressPods{Namespace: "red", Selection: "x", PodIps: []string{"ten"}}); err == nil {
		t.Error("a pod without an address is taken")
	}
	if _, err := s.SetEgressHosting(7, []*egressv1.HostedAddress{{Ip: "ten"}}); err == nil {
		t.Error("a hosted egress IP that is none is taken")
	}
	if change := s.ForgetEgress("red"); !change.empty() {
		t.Errorf("what was not taken is known: %v", change)
	}
}
