package assign

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/bucket"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	ipamv1 "github.com/damask-sdn/damask/proto/damask/ipam/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/egress/facts"
	"github.com/damask-sdn/damask/services/egress/liveness"
	"github.com/damask-sdn/damask/services/egress/store"
)

// theatre is a desk, a store in memory, and nodes that do what they are told
// when they get to it.
type theatre struct {
	t        *rapid.T
	book     *facts.Book
	desk     *desk
	revision uint64
	stored   map[string]proto.Message
	wishes   map[string]*egressv1.NetNamespaceEgress
	offers   map[string]*egressv1.HostSubnetEgress
	netids   map[string]uint32

	told map[string]*egressv1.EgressHosting // by node, what the agent last read
	held map[string]map[string]bool         // by node, what it really holds
	dead map[string]bool
}

const actors = 4

func newTheatre(t *rapid.T) *theatre {
	th := &theatre{
		t: t, book: facts.New(), stored: map[string]proto.Message{},
		wishes: map[string]*egressv1.NetNamespaceEgress{}, offers: map[string]*egressv1.HostSubnetEgress{}, netids: map[string]uint32{},
		told: map[string]*egressv1.EgressHosting{}, held: map[string]map[string]bool{}, dead: map[string]bool{},
	}
	for i := range actors {
		node := fmt.Sprintf("n%d", i)
		th.held[node] = map[string]bool{}
		th.book.SetHostSubnet(node, &ipamv1.HostSubnet{Name: node, HostIps: []string{fmt.Sprintf("192.0.2.%d", 100+i)}, Subnets: []string{"10.128.0.0/23"}})
		th.put(store.Nodes().Key(node), &egressv1.EgressNode{Node: node, Networks: []string{fmt.Sprintf("192.0.2.%d/24", 100+i)}})
	}
	th.desk = newDesk(th.book, func() time.Time { return time.Unix(int64(th.revision), 0) }) //nolint:gosec // small
	return th
}

// put stores an object, nil to delete it, as the bucket would.
func (th *theatre) put(key string, object proto.Message) {
	th.revision++
	c := bucket.Change{Entry: bucket.Entry{Key: key, Revision: th.revision}}
	if object == nil {
		c.Deleted = true
		delete(th.stored, key)
	} else {
		clone := proto.Clone(object)
		message := clone.ProtoReflect()
		message.Clear(message.Descriptor().Fields().ByName("revision"))
		value, err := proto.Marshal(clone)
		if err != nil {
			th.t.Fatal(err)
		}
		c.Value = value
		th.stored[key] = clone
	}
	th.book.Observe([]bucket.Change{c}, false)
}

// number gives a namespace a VNID.
func (th *theatre) number(namespace string, netid uint32) {
	th.netids[namespace] = netid
	th.book.SetNetNamespace(namespace, &tenancyv1.NetNamespace{Name: namespace, Netid: netid})
}

// decide lets the desk decide, and checks what it stores.
func (th *theatre) decide() {
	for _, w := range th.desk.step(th.book.Take()) {
		th.put(w.key, w.object)
		if h, ok := w.object.(*egressv1.EgressHosting); ok {
			h = proto.CloneOf(h)
			h.Revision = th.revision
			th.stored[w.key] = h
		}
	}
}

// act makes a living node's agent do what it was told, half of it or all.
func (th *theatre) act(node string) {
	if th.dead[node] {
		return
	}
	h, _ := th.stored[store.Hostings().Key(node)].(*egressv1.EgressHosting)
	switch rapid.IntRange(0, 3).Draw(th.t, "act") {
	case 0:
	case 1:
		th.told[node] = h // read, and not done yet
	case 2:
		th.told[node] = h
		fallthrough
	default:
		h = th.told[node]
		th.held[node] = map[string]bool{}
		for _, a := range h.GetAddresses() {
			th.held[node][a.GetIp()] = true
		}
		th.book.Confirm(node, h.GetRevision())
	}
}

func (th *theatre) change() {
	node := fmt.Sprintf("n%d", rapid.IntRange(0, actors-1).Draw(th.t, "node"))
	switch rapid.IntRange(0, 9).Draw(th.t, "kind") {
	case 0, 1, 2:
		th.wish()
	case 3:
		offer := &egressv1.HostSubnetEgress{Node: node, Drained: rapid.IntRange(0, 3).Draw(th.t, "drained") == 0}
		for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(1, 8), 0, 3, rapid.ID[int]).Draw(th.t, "lists") {
			offer.EgressIps = append(offer.EgressIps, fmt.Sprintf("192.0.2.%d", n))
		}
		if rapid.IntRange(0, 5).Draw(th.t, "nonsense") == 0 {
			// The API refuses it, so it is an older release's, or somebody else's.
			offer.EgressIps, offer.EgressCidrs = append(offer.EgressIps, "y"), []string{"x"}
		}
		if rapid.Bool().Draw(th.t, "range") {
			offer.EgressCidrs = append(offer.EgressCidrs, "192.0.2.0/28")
		}
		th.offers[node] = offer
		th.put(store.HostSubnets().Key(node), offer)
	case 4:
		th.dead[node] = true
		th.held[node], th.told[node] = map[string]bool{}, nil // the power is off
		th.book.Confirm(node, 0)
		th.book.SetHealth(liveness.Verdict{Node: node, Health: liveness.Down})
	case 5:
		th.dead[node] = false
		th.book.SetHealth(liveness.Verdict{Node: node, Health: liveness.Up})
	case 6:
		name := fmt.Sprintf("ns%d", rapid.IntRange(0, 3).Draw(th.t, "joins"))
		th.number(name, rapid.SampledFrom([]uint32{10, 11, 12, 0}).Draw(th.t, "netid"))
	case 7:
		name := fmt.Sprintf("ns%d", rapid.IntRange(0, 3).Draw(th.t, "goes"))
		delete(th.netids, name)
		th.book.SetNetNamespace(name, nil)
	case 8: // another replica takes over
		th.desk = newDesk(th.book, th.desk.now)
		all := th.book.TakeAll()
		th.desk.inherit(all)
		th.book.Again(all)
	default:
		ns, name := fmt.Sprintf("ns%d", rapid.IntRange(0, 3).Draw(th.t, "pod")), fmt.Sprintf("p%d", rapid.IntRange(0, 3).Draw(th.t, "number"))
		th.book.SetPod(ns, name, &tenancyv1.Pod{Ips: []string{fmt.Sprintf("10.128.%c.%c", ns[2], name[1])}, Labels: map[string]string{"app": name}})
	}
}

// wish stores what a namespace wants; no two want the same, as package store
// promises.
func (th *theatre) wish() {
	name := fmt.Sprintf("ns%d", rapid.IntRange(0, 3).Draw(th.t, "namespace"))
	taken := map[string]bool{}
	for other, w := range th.wishes {
		for _, ip := range store.Wanted(w) {
			taken[ip] = taken[ip] || other != name
		}
	}
	w := &egressv1.NetNamespaceEgress{Namespace: name}
	some := &egressv1.PodEgress{Name: "some", PodSelector: map[string]string{"app": "p1"}}
	for _, n := range rapid.SliceOfNDistinct(rapid.IntRange(1, 8), 0, 3, rapid.ID[int]).Draw(th.t, "wants") {
		ip := fmt.Sprintf("192.0.2.%d", n)
		switch {
		case taken[ip]:
		case rapid.IntRange(0, 3).Draw(th.t, "selected") == 0:
			some.EgressIps = append(some.EgressIps, ip)
		default:
			w.EgressIps = append(w.EgressIps, ip)
		}
	}
	if len(some.EgressIps) > 0 {
		w.Pods = append(w.Pods, some)
	}
	key := store.NetNamespaces().Key(name)
	if len(store.Wanted(w)) == 0 {
		delete(th.wishes, name)
		th.put(key, nil)
		return
	}
	th.wishes[name] = w
	th.put(key, w)
}

// check looks at what the world outside sees, and what namespaces are told.
func (th *theatre) check() {
	th.unchanged()
	holder := map[string]string{}
	for _, node := range slices.Sorted(maps.Keys(th.held)) {
		for ip := range th.held[node] {
			if other, twice := holder[ip]; twice {
				th.t.Fatalf("%s is on %s and on %s", ip, other, node)
			}
			holder[ip] = node
		}
	}
	hosting, shared := map[string]string{}, map[string]bool{}
	for i := range actors {
		node := fmt.Sprintf("n%d", i)
		h, _ := th.stored[store.Hostings().Key(node)].(*egressv1.EgressHosting)
		slots := map[string]string{}
		for _, a := range h.GetAddresses() {
			slot := fmt.Sprintf("%d/%d", a.GetNetid(), a.GetSlot())
			if slots[slot] != "" {
				th.t.Fatalf("%s and %s have slot %s of %s", slots[slot], a.GetIp(), slot, node)
			}
			slots[slot] = a.GetIp()
			shared[a.GetIp()] = a.GetMatchPods()
			hosting[a.GetIp()] = node + " " + a.GetNamespace() + " " + a.GetSelection()
			if th.dead[node] {
				th.t.Fatalf("%s is to be held by %s, which is down", a.GetIp(), node)
			}
		}
	}
	seen := 0
	for name, w := range th.wishes {
		netid, known := th.netids[name]
		for _, s := range selections(proto.CloneOf(w)) {
			a, _ := th.stored[store.Assignments().Key(name, s.name)].(*egressv1.EgressAssignment)
			if len(a.GetAddresses()) != len(s.ips) || a.Netid != nil != known || a.GetNetid() != netid {
				th.t.Fatalf("%s %s: told %v, wants %v with VNID %d", name, s.name, a, s.ips, netid)
			}
			for i, told := range a.GetAddresses() {
				want := told.GetNode() + " " + name + " " + s.name
				hosted := told.GetState() == egressv1.AddressState_ADDRESS_STATE_HOSTED
				if !hosted && shared[told.GetIp()] && hosting[told.GetIp()] == want && told.GetState() == egressv1.AddressState_ADDRESS_STATE_MOVING {
					hosted = true // the node has not said yet that it knows
				}
				if told.GetIp() != s.ips[i].String() || hosted != (hosting[told.GetIp()] == want) {
					th.t.Fatalf("%s %s is told %v, the nodes have %q", name, s.name, told, hosting[told.GetIp()])
				}
				if hosted {
					seen++
				}
			}
		}
	}
	if seen != len(hosting) {
		th.t.Fatalf("%d addresses are hosted, namespaces know of %d", len(hosting), seen)
	}
}

// unchanged checks that what the book shares is what is stored: whoever decides must not
// change it.
func (th *theatre) unchanged() {
	for i := range actors {
		name := fmt.Sprintf("ns%d", i)
		if got := th.book.Namespace(name).Wish; !proto.Equal(got, th.wishes[name]) {
			th.t.Fatalf("the wish of %s is %v, and was %v", name, got, th.wishes[name])
		}
		name = fmt.Sprintf("n%d", i)
		node := th.book.Node(name)
		if !proto.Equal(node.Offer, th.offers[name]) {
			th.t.Fatalf("%s may host %v, and was to host %v", name, node.Offer, th.offers[name])
		}
		h, _ := th.stored[store.Hostings().Key(name)].(*egressv1.EgressHosting)
		if !proto.Equal(node.Hosting, h) {
			th.t.Fatalf("%s has to hold %v, stored was %v", name, node.Hosting, h)
		}
	}
}

// settled makes everybody act until nothing changes, and checks that what can
// be hosted then is.
func (th *theatre) settled() {
	for range 3 {
		for i := range actors {
			node := fmt.Sprintf("n%d", i)
			h, _ := th.stored[store.Hostings().Key(node)].(*egressv1.EgressHosting)
			if th.dead[node] {
				continue
			}
			th.told[node], th.held[node] = h, map[string]bool{}
			for _, a := range h.GetAddresses() {
				th.held[node][a.GetIp()] = true
			}
			th.book.Confirm(node, h.GetRevision())
		}
		th.decide()
		th.check()
	}
	for i := range actors {
		for _, a := range th.book.Node(fmt.Sprintf("n%d", i)).Hosting.GetAddresses() {
			if netid, known := th.netids[a.GetNamespace()]; !known || a.GetNetid() != netid {
				th.t.Fatalf("the host is told %v, the namespace has VNID %d", a, netid)
			}
		}
	}
	for key, object := range th.stored {
		if a, ok := object.(*egressv1.EgressAssignment); ok {
			for _, told := range a.GetAddresses() {
				if told.GetState() == egressv1.AddressState_ADDRESS_STATE_MOVING {
					th.t.Fatalf("%s: %v, though everybody did what was asked", key, told)
				}
				ip := netip.MustParseAddr(told.GetIp())
				if owner, ok := th.desk.planner.Owner(ip); ok && th.desk.planner.Outcome(owner, ip).Node != told.GetNode() {
					th.t.Fatalf("%s: %v, planned was %+v", key, told, th.desk.planner.Outcome(owner, ip))
				}
			}
		}
	}
	if writes := th.desk.step(th.book.TakeAll()); len(writes) > 0 {
		th.t.Fatalf("nothing changed, and %d keys are written, %s first", len(writes), writes[0].key)
	}
}

// TestRandomHistoriesNeverShowTwoHosts runs random wishes, offers, joins, deaths,
// returns, and leaders that take over, while agents lag.
func TestRandomHistoriesNeverShowTwoHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		th := newTheatre(t)
		for i := range 4 {
			name := fmt.Sprintf("ns%d", i)
			th.number(name, []uint32{0, 10, 11, 12}[i])
		}
		th.decide()
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			th.change()
			th.decide()
			for i := range actors {
				th.act(fmt.Sprintf("n%d", i))
			}
			th.check()
			th.decide()
			th.check()
		}
		th.settled()
	})
}
