package intent

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/internal/egressmark"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/nodeagent/openflow"
)

// drawnVNIDs are what histories draw: VNID 0, which is global elsewhere, is one like others
// on the way out.
var drawnVNIDs = []uint32{0, 40, 41}

func anyVNID(random *rand.Rand) uint32 { return drawnVNIDs[random.IntN(len(drawnVNIDs))] }

// world is the other side of a random history: plain facts, and where each pod must
// leave by them. It knows nothing of flows.
type world struct {
	vnids       map[string]uint32
	pods        map[string]Pod
	assignments map[string][]*egressv1.EgressAssignment // There: known.
	lists       map[[2]string][]string
	hosted      []*egressv1.HostedAddress
}

// want is where a pod must leave: "drop", "node", or the places.
func (w *world) want(t *testing.T, pod Pod) []string {
	vnid, hasVNID := w.vnids[pod.Namespace]
	assignments, known := w.assignments[pod.Namespace]
	if !hasVNID || !known {
		return []string{"drop"}
	}
	if len(assignments) == 0 {
		return []string{"node"}
	}
	var mine []*egressv1.EgressAssignment
	for _, a := range assignments {
		alone := len(assignments) == 1 && a.GetSelection() == "default"
		if alone || slices.Contains(w.lists[[2]string{pod.Namespace, a.GetSelection()}], pod.IP.String()) {
			mine = append(mine, a)
		}
	}
	rest := !slices.ContainsFunc(assignments, func(a *egressv1.EgressAssignment) bool { return a.GetSelection() == "default" })
	if len(mine) == 0 && rest && slices.Contains(w.lists[[2]string{pod.Namespace, "default"}], pod.IP.String()) {
		return []string{"node"}
	}
	if len(mine) != 1 || mine[0].GetNetid() != vnid {
		return []string{"drop"}
	}
	places := map[string]bool{}
	for _, address := range mine[0].GetAddresses() {
		switch address.GetNode() {
		case "":
		case "self":
			for _, h := range w.hosted {
				if h.GetIp() == address.GetIp() && h.GetNamespace() == pod.Namespace && h.GetSelection() == mine[0].GetSelection() && h.GetNetid() == vnid {
					places[mac(t, vnid, h.GetSlot())] = true
				}
			}
		default:
			places[nodeIPs[address.GetNode()]] = true
		}
	}
	var all []string
	for place := range places {
		all = append(all, place)
	}
	if slices.Sort(all); len(all) == 0 {
		return []string{"drop"}
	}
	return all
}

// wantFromTunnel is where a packet of another node's pod must leave.
func (w *world) wantFromTunnel(t *testing.T, vnid uint32, ip string) []string {
	claims := map[uint32]bool{}
	whole, entries := false, 0
	for _, h := range w.hosted {
		if h.GetNetid() != vnid {
			continue
		}
		entries++
		whole = whole || !h.GetMatchPods()
		if !h.GetMatchPods() || slices.Contains(w.lists[[2]string{h.GetNamespace(), h.GetSelection()}], ip) {
			claims[h.GetSlot()] = true
		}
	}
	if entries > 1 && whole {
		// The VNID alone cannot tell then; only what is named counts.
		clear(claims)
		for _, h := range w.hosted {
			if h.GetNetid() == vnid && h.GetMatchPods() && slices.Contains(w.lists[[2]string{h.GetNamespace(), h.GetSelection()}], ip) {
				claims[h.GetSlot()] = true
			}
		}
	}
	if len(claims) != 1 {
		return []string{"drop"}
	}
	for slot := range claims {
		return []string{mac(t, vnid, slot)}
	}
	return nil
}

// assignedHere are the addresses that are assigned to this node, as it would host them.
func (w *world) assignedHere(namespaces []string) (all []*egressv1.HostedAddress) {
	for _, ns := range namespaces {
		for _, a := range w.assignments[ns] {
			for _, address := range a.GetAddresses() {
				if address.GetNode() == "self" {
					all = append(all, &egressv1.HostedAddress{Ip: address.GetIp(), Namespace: ns, Selection: a.GetSelection(), Netid: a.GetNetid()})
				}
			}
		}
	}
	return all
}

// step changes the world and the state alike.
func (w *world) step(t *testing.T, random *rand.Rand, s *State) Change {
	t.Helper()
	names := []string{"red", "blue", "green"}
	selections := []string{"default", "db", "web"}
	ns := names[random.IntN(len(names))]
	var change Change
	var err error
	switch random.IntN(9) {
	case 0, 1:
		w.vnids[ns] = anyVNID(random)
		change = s.SetNetNamespace(namespace(ns, w.vnids[ns], 1))
	case 2:
		if random.IntN(3) == 0 {
			delete(w.vnids, ns)
			change = s.DeleteNetNamespace(ns)
		}
	case 3, 4:
		var all []*egressv1.EgressAssignment
		for i, name := range selections {
			if random.IntN(3) > 0 {
				continue
			}
			var addresses []string
			for j := range random.IntN(4) {
				addresses = append(addresses, fmt.Sprintf("192.0.2.%d@%s", 100+10*slices.Index(names, ns)+3*i+j, []string{"self", "n2", "n3", ""}[random.IntN(4)]))
			}
			all = append(all, assignment(ns, name, anyVNID(random), uint32(i), addresses...))
		}
		w.assignments[ns] = all
		change, err = s.SetEgress(ns, 7, all)
	case 5:
		if random.IntN(3) == 0 {
			delete(w.assignments, ns)
			change = s.ForgetEgress(ns)
		}
	case 6:
		selection := selections[random.IntN(len(selections))]
		var ips []string
		for i := range 6 {
			if random.IntN(2) == 0 {
				ips = append(ips, podNumber(i, ns).IP.String())
			}
		}
		w.lists[[2]string{ns, selection}] = ips
		change, err = s.SetEgressPods(&egressv1.EgressPods{Namespace: ns, Selection: selection, PodIps: ips})
	case 7:
		w.hosted = nil
		for i := range random.IntN(5) {
			h := &egressv1.HostedAddress{
				Ip: fmt.Sprintf("192.0.2.%d", 100+10*random.IntN(3)+i*2), Namespace: names[random.IntN(3)], Selection: selections[random.IntN(3)],
				Netid: anyVNID(random),
			}
			if here := w.assignedHere(names); len(here) > 0 && random.IntN(2) == 0 {
				h = here[random.IntN(len(here))]
			}
			h.Slot, h.MatchPods = uint32(i), random.IntN(3) > 0
			if !slices.ContainsFunc(w.hosted, func(other *egressv1.HostedAddress) bool { return other.GetIp() == h.GetIp() }) {
				w.hosted = append(w.hosted, h)
			}
		}
		change, err = s.SetEgressHosting(7, w.hosted)
	default:
		pod := podNumber(random.IntN(6), ns)
		for _, other := range w.pods {
			if other.IP == pod.IP && other.Namespace != ns {
				return Change{} // Somebody has the address.
			}
		}
		if _, there := w.pods[pod.Owner()]; there && random.IntN(2) == 0 {
			delete(w.pods, pod.Owner())
			change = s.RemovePod(pod)
		} else {
			w.pods[pod.Owner()] = pod
			change = s.AddPod(pod)
		}
	}
	if err != nil {
		t.Fatal(err)
	}
	return change
}

// TestRandomHistoriesLeaveByTheRightPlace changes everything at random, applies only what
// each change names, and asks an independent model where packets must go.
func TestRandomHistoriesLeaveByTheRightPlace(t *testing.T) {
	seen := map[string]int{}
	for seed := range uint64(40) {
		random := rand.New(rand.NewPCG(seed, 1))
		s := known(t, true)
		s.FollowEgress(egressmark.Reserved{})
		w := &world{vnids: map[string]uint32{}, pods: map[string]Pod{}, assignments: map[string][]*egressv1.EgressAssignment{}, lists: map[[2]string][]string{}}
		sw := s.CompileAll()
		for step := range 120 {
			for _, owner := range w.step(t, random, s).Owners {
				sw[owner] = s.compile(owner)
			}
			where := fmt.Sprintf("seed %d, step %d", seed, step)
			flows := installed(t, where, sw, s.CompileAll())
			for _, pod := range w.pods {
				vnid, known := w.vnids[pod.Namespace]
				if !known {
					continue // It has no flows at all.
				}
				got, want := leaves(flows, int(pod.Port), pod.IP, vnid), w.want(t, pod)
				if !slices.Equal(got, want) {
					t.Fatalf("%s: %s leaves by %q, want %q", where, pod.Owner(), got, want)
				}
				seen[fmt.Sprintf("%d places, %t %t", len(want), want[0] == "drop", want[0] == "node")]++
				if vnid == 0 {
					seen["VNID 0 "+want[0][:4]]++
				}
			}
			for _, vnid := range drawnVNIDs {
				ip := podNumber(random.IntN(6), "").IP
				got, want := leaves(flows, 1, ip, vnid), w.wantFromTunnel(t, vnid, ip.String())
				// A pod that is closed here cannot come from elsewhere.
				if !slices.Equal(got, want) && !w.has(ip) {
					t.Fatalf("%s: from the tunnel %s of VNID %d leaves by %q, want %q", where, ip, vnid, got, want)
				}
				seen[fmt.Sprintf("tunnel %s %d", want[0][:4], vnid)]++
			}
		}
	}
	for _, must := range []string{"1 places, true false", "1 places, false true", "1 places, false false", "2 places, false false", "VNID 0 drop", "VNID 0 node", "VNID 0 mark", "VNID 0 192.", "tunnel drop 0", "tunnel mark 0", "tunnel drop 40", "tunnel mark 40"} {
		if seen[must] < 20 {
			t.Errorf("the histories had %q %d times: %v", must, seen[must], seen)
		}
	}
}

func (w *world) has(ip netip.Addr) bool {
	for _, pod := range w.pods {
		if pod.IP == ip {
			return true
		}
	}
	return false
}

// installed answers all flows, and fails if the applied changes did not make what a
// comparison of everything would, or if two owners want one flow.
func installed(t *testing.T, where string, sw, whole map[string][]openflow.Flow) []openflow.Flow {
	t.Helper()
	var all []openflow.Flow
	owners := map[openflow.Key]string{}
	for owner, flows := range sw {
		if !slices.EqualFunc(flows, whole[owner], openflow.Flow.Equal) {
			t.Fatalf("%s: %s has\n%v, and should have\n%v", where, owner, flows, whole[owner])
		}
		for _, f := range flows {
			if other := owners[f.Key()]; other != "" {
				t.Fatalf("%s: %s and %s both have %s", where, other, owner, f)
			}
			owners[f.Key()] = owner
		}
		all = append(all, flows...)
	}
	for owner := range whole {
		if _, has := sw[owner]; !has {
			t.Fatalf("%s: nobody was told of %s", where, owner)
		}
	}
	return all
}
