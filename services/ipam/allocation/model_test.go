package allocation_test

import (
	"flag"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/natsd/natsdtest"
	"github.com/damask-sdn/damask/services/ipam/allocation"
	"github.com/damask-sdn/damask/services/ipam/plan"
)

// model is what the store promises, in maps: no revisions, no cursor, no
// claims.
type model struct {
	plan  plan.Plan
	nodes map[string]modelNode
	used  map[netip.Prefix]bool // ever
	freed []netip.Prefix        // longest ago first
}

type modelNode struct {
	uid    string
	ip     netip.Addr
	subnet netip.Prefix
}

func (m *model) owner(subnet netip.Prefix) string {
	for name, n := range m.nodes {
		if n.subnet == subnet {
			return name
		}
	}
	return ""
}

func (m *model) ipOwner(ip netip.Addr) string {
	for name, n := range m.nodes {
		if n.ip == ip {
			return name
		}
	}
	return ""
}

// next is the subnet that a new node gets.
func (m *model) next() (netip.Prefix, bool) {
	for _, r := range m.plan.Ranges {
		for n := range r.Count() {
			if s := r.At(n); !m.used[s] {
				return s, true
			}
		}
		for _, s := range m.freed {
			if r.Has(s) {
				return s, true
			}
		}
	}
	return netip.Prefix{}, false
}

func (m *model) free(name string) {
	m.freed = append(m.freed, m.nodes[name].subnet)
	delete(m.nodes, name)
}

// register answers what the store must: a subnet, or a kind of refusal.
func (m *model) register(r allocation.Registration) (netip.Prefix, allocation.Kind) {
	have, known := m.nodes[r.Node]
	ip := r.HostIPs[0]
	_, _, covered := m.plan.Covering(ip)
	taken := m.ipOwner(ip) != "" && m.ipOwner(ip) != r.Node
	if known && have.uid == r.UID {
		switch {
		case len(r.Wish) > 0 && r.Wish[0] != have.subnet:
			return netip.Prefix{}, allocation.InUse
		case ip != have.ip && (covered || taken):
			return netip.Prefix{}, allocation.Overlap
		}
		have.ip = ip
		m.nodes[r.Node] = have
		return have.subnet, 0
	}
	if covered || taken {
		return netip.Prefix{}, allocation.Overlap
	}
	saved := slices.Clone(m.freed)
	if known {
		m.free(r.Node)
	}
	refuse := func(kind allocation.Kind) (netip.Prefix, allocation.Kind) {
		if known {
			m.nodes[r.Node] = have
		}
		m.freed = saved
		return netip.Prefix{}, kind
	}
	var subnet netip.Prefix
	if len(r.Wish) > 0 {
		subnet = r.Wish[0]
		if _, ok := m.plan.RangeOf(subnet); !ok || m.owner(subnet) != "" {
			return refuse(allocation.Overlap)
		}
	} else if next, ok := m.next(); ok {
		subnet = next
	} else {
		return refuse(allocation.Exhausted)
	}
	m.used[subnet] = true
	m.freed = slices.DeleteFunc(m.freed, func(s netip.Prefix) bool { return s == subnet })
	m.nodes[r.Node] = modelNode{uid: r.UID, ip: ip, subnet: subnet}
	return subnet, 0
}

// replace answers the refusal that the store must, or 0.
func (m *model) replace(p plan.Plan) allocation.Kind {
	var nodes []plan.Node
	for name, n := range m.nodes {
		nodes = append(nodes, plan.Node{Name: name, Subnets: []netip.Prefix{n.subnet}, HostIPs: []netip.Addr{n.ip}})
	}
	switch o := plan.Replace(m.plan, p, nodes); {
	case o.InUse != nil:
		return allocation.InUse
	case o.Overlap != nil:
		return allocation.Overlap
	}
	m.plan = p
	gone := func(s netip.Prefix) bool { _, kept := p.RangeOf(s); return !kept }
	m.freed = slices.DeleteFunc(m.freed, gone)
	for s := range m.used {
		if gone(s) {
			delete(m.used, s)
		}
	}
	return 0
}

func TestAnyHistoryEndsAsTheModelSays(t *testing.T) {
	// Each history has a bucket of its own on a real server: 40 take some
	// seconds. -rapid.checks asks for more.
	if f := flag.Lookup("rapid.checks"); f.Value.String() == f.DefValue {
		if err := f.Value.Set("40"); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = f.Value.Set(f.DefValue) }()
	}
	server := natsdtest.New(t)
	var buckets atomic.Int32
	plans := func(t *rapid.T) []plan.Plan {
		lengths := map[string]uint32{"10.1.0.0/28": 2, "10.2.0.0/28": 3, "10.1.0.0/27": 2, "192.0.2.0/29": 2}
		return []plan.Plan{
			network(t, lengths, "10.1.0.0/28"),
			network(t, lengths, "10.1.0.0/28", "10.2.0.0/28"),
			network(t, lengths, "10.2.0.0/28", "10.1.0.0/27"),
			network(t, map[string]uint32{"10.1.0.0/28": 3}, "10.1.0.0/28"),
			network(t, lengths, "10.1.0.0/28", "192.0.2.0/29"),
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		name := fmt.Sprintf("ipam_%d", buckets.Add(1))
		a, _, stopA := open(t, server, name, nil)
		defer stopA()
		b, view, stopB := open(t, server, name, nil)
		defer stopB()
		replicas := rapid.SampledFrom([]*allocation.Store{a, b})
		choices := plans(t)
		m := &model{plan: choices[0], nodes: map[string]modelNode{}, used: map[netip.Prefix]bool{}}
		if _, err := a.Create(soon(), m.plan); err != nil {
			t.Fatal(err)
		}
		nodes := rapid.SampledFrom([]string{"a", "b", "c.d", "c0", "e", "f", "g", "h"})
		uids := rapid.SampledFrom([]string{"u1", "u1", "u1", "u2"})
		wishes := rapid.SampledFrom([]string{"", "", "", "10.1.0.0/30", "10.1.0.8/30", "10.2.0.8/29", "10.3.0.0/30"})
		t.Repeat(map[string]func(*rapid.T){
			"register": func(t *rapid.T) {
				r := node(nodes.Draw(t, "node"), uids.Draw(t, "uid"), rapid.ByteRange(1, 12).Draw(t, "ip"))
				if wish := wishes.Draw(t, "wish"); wish != "" {
					r.Wish = []netip.Prefix{netip.MustParsePrefix(wish)}
				}
				want, kind := m.register(r)
				h, err := replicas.Draw(t, "replica").Register(soon(), r, now)
				if kindOf(err) != kind || (err != nil) != (kind != 0) || err == nil && subnetOf(h) != want.String() {
					t.Fatalf("%+v: got %v, %v; want %s, refusal %d", r, h, err, want, kind)
				}
			},
			"release": func(t *rapid.T) {
				name := nodes.Draw(t, "node")
				if err := replicas.Draw(t, "replica").Release(soon(), name, ""); err != nil {
					t.Fatal(err)
				}
				if _, known := m.nodes[name]; known {
					m.free(name)
				}
			},
			"replace the plan": func(t *rapid.T) {
				s := replicas.Draw(t, "replica")
				p := rapid.SampledFrom(choices).Draw(t, "plan")
				if err := view.Refresh(soon()); err != nil {
					t.Fatal(err)
				}
				stored, _, _, err := b.ClusterNetwork(soon())
				if err != nil {
					t.Fatal(err)
				}
				_, err = s.Replace(soon(), p, stored.GetRevision())
				if want := m.replace(p); kindOf(err) != want || (err != nil) != (want != 0) {
					t.Fatalf("%v: got %v, want refusal %d", p, err, want)
				}
			},
			"": func(t *rapid.T) {
				if err := view.Refresh(soon()); err != nil {
					t.Fatal(err)
				}
				compare(t, b, m)
			},
		})
		if err := audit(view.List("")); err != nil {
			t.Fatal(err)
		}
	})
}

// compare fails unless the store lists what the model has.
func compare(t *rapid.T, s *allocation.Store, m *model) {
	list, _, err := s.HostSubnets(soon())
	if err != nil {
		t.Fatal(err)
	}
	if len(list) != len(m.nodes) {
		t.Fatalf("%d host subnets, want %d", len(list), len(m.nodes))
	}
	last := ""
	for _, h := range list {
		want := m.nodes[h.GetName()]
		if h.GetNodeUid() != want.uid || subnetOf(h) != want.subnet.String() || h.GetHostIps()[0] != want.ip.String() {
			t.Fatalf("got %v, want %+v", h, want)
		}
		if h.GetName() <= last {
			t.Fatalf("%s comes after %s", h.GetName(), last)
		}
		last = h.GetName()
	}
}
