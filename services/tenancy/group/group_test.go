package group

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/selector"
	"pgregory.net/rapid"
)

func address(s string) netip.Addr { return netip.MustParseAddr(s) }

func labels(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m[pairs[i]] = pairs[i+1]
	}
	return m
}

// web is shop/web, with a port http.
func web() Pod {
	return Pod{Namespace: "shop", Name: "web", Addresses: []netip.Addr{address("10.1.0.5")}, Labels: labels("app", "web"),
		Ports: []policy.NamedPort{{Name: "http", Protocol: policy.TCP, Port: 8080}}}
}

func app(name string) selector.Selector { return selector.Labels(labels("app", name)) }

func texts(b *Book, u Use) []string {
	members, _ := b.Members(u.ID())
	var all []string
	for _, m := range members {
		all = append(all, fmt.Sprintf("%s:%d", m.Addr, m.Port))
	}
	return all
}

func TestGroupsFollowWhatTheySelect(t *testing.T) {
	inShop := Use{Kind: Addresses, Pair: Pair{Namespace: "shop", Pods: app("web")}}
	blue := Use{Kind: Addresses, Pair: Pair{Namespaces: selector.Labels(labels("team", "blue"))}}
	named := Use{Kind: Addresses, Pair: Pair{Namespaces: selector.Labels(labels(nameLabel, "shop")), Pods: app("web")}}
	everybody := Use{Kind: Addresses}
	http := Use{Kind: Ports, Port: policy.PortName{Protocol: policy.TCP, Name: "http"}}
	tests := []struct {
		name   string
		change func(*Book)
		want   map[*Use][]string
	}{
		{"a pod whose namespace nobody described has its name as a label", func(b *Book) {}, map[*Use][]string{
			&inShop: {"10.1.0.5:0"}, &named: {"10.1.0.5:0"}, &blue: nil, &everybody: {"10.1.0.5:0"}, &http: {"10.1.0.5:8080"}}},
		{"a namespace gets a label", func(b *Book) { b.SetNamespace("shop", labels("team", "blue")) }, map[*Use][]string{
			&blue: {"10.1.0.5:0"}, &named: {"10.1.0.5:0"}}},
		{"a namespace cannot take another's name", func(b *Book) { b.SetNamespace("shop", labels(nameLabel, "bank")) },
			map[*Use][]string{&named: {"10.1.0.5:0"}}},
		{"a namespace loses a label", func(b *Book) {
			b.SetNamespace("shop", labels("team", "blue"))
			b.SetNamespace("shop", nil)
		}, map[*Use][]string{&blue: nil, &inShop: {"10.1.0.5:0"}}},
		{"a namespace is deleted before its pods", func(b *Book) {
			b.SetNamespace("shop", labels("team", "blue"))
			b.DeleteNamespace("shop")
		}, map[*Use][]string{&blue: nil, &inShop: {"10.1.0.5:0"}}},
		{"a pod gets another label", func(b *Book) {
			p := web()
			p.Labels = labels("app", "db")
			b.SetPod(p)
		}, map[*Use][]string{&inShop: nil, &named: nil, &everybody: {"10.1.0.5:0"}}},
		{"a pod gets another address", func(b *Book) {
			p := web()
			p.Addresses = []netip.Addr{address("10.1.0.9"), address("fd00::9")}
			b.SetPod(p)
		}, map[*Use][]string{&inShop: {"10.1.0.9:0", "fd00::9:0"}, &http: {"10.1.0.9:8080", "fd00::9:8080"}}},
		{"a pod's name for a port moves", func(b *Book) {
			p := web()
			p.Ports = []policy.NamedPort{{Name: "http", Protocol: policy.UDP, Port: 1}, {Name: "http", Protocol: policy.TCP, Port: 81},
				{Name: "http", Protocol: policy.TCP, Port: 82}}
			b.SetPod(p)
		}, map[*Use][]string{&http: {"10.1.0.5:81"}}},
		{"a pod is gone", func(b *Book) { b.DeletePod("shop", "web") }, map[*Use][]string{&inShop: nil, &everybody: nil, &http: nil}},
		{"an address goes to another pod before the first one is gone", func(b *Book) {
			p := web()
			p.Name = "next"
			b.SetPod(p)
			b.DeletePod("shop", "web")
		}, map[*Use][]string{&inShop: {"10.1.0.5:0"}, &http: {"10.1.0.5:8080"}}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			b := NewBook()
			for _, u := range []Use{inShop, blue, named, everybody, http} {
				b.Retain(u)
			}
			b.SetPod(web())
			test.change(b)
			for u, want := range test.want {
				if got := texts(b, *u); !slices.Equal(got, want) {
					t.Errorf("%s: got %v, want %v", u.Pair, got, want)
				}
			}
		})
	}
}

func TestAChangeIsOneMoveInTheGroupsThatHoldThePod(t *testing.T) {
	b := NewBook()
	all, other := Use{Kind: Addresses}, Use{Kind: Addresses, Pair: Pair{Namespace: "bank"}}
	b.Retain(all)
	b.Retain(all)
	b.Retain(other)
	if c := b.Drain(); len(c.Groups) != 2 || !c.Groups[0].Whole || !c.Groups[1].Whole {
		t.Errorf("new groups got %+v", c)
	}
	b.SetPod(web())
	want := Changes{Groups: []Change{{ID: all.ID(), Added: []policy.Member{{Addr: address("10.1.0.5")}}}}, Pods: []PodKey{{"shop", "web"}}}
	if got := b.Drain(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("a pod: got %+v, want %+v", got, want)
	}
	b.SetPod(web())
	b.DeletePod("shop", "web")
	b.SetPod(web())
	if got := b.Drain(); len(got.Groups) != 0 {
		t.Errorf("what came and went: got %+v", got)
	}
	b.Release(all)
	if got := b.Drain(); len(got.Groups) != 0 {
		t.Errorf("one of two uses ends: got %+v", got)
	}
	b.Release(all)
	if got := b.Drain(); len(got.Groups) != 1 || !got.Groups[0].Gone {
		t.Errorf("the last use ends: got %+v", got)
	}
}

func drawSelector(t *rapid.T) selector.Selector {
	one := rapid.Custom(func(t *rapid.T) selector.Requirement {
		r := selector.Requirement{Key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"),
			Operator: rapid.SampledFrom([]selector.Operator{selector.In, selector.NotIn, selector.Exists, selector.DoesNotExist}).Draw(t, "op")}
		if r.Operator == selector.In || r.Operator == selector.NotIn {
			r.Values = rapid.SliceOfN(rapid.SampledFrom([]string{"1", "2"}), 1, 2).Draw(t, "values")
		}
		return r
	})
	return selector.New(rapid.SliceOfN(one, 0, 2).Draw(t, "requirements")...)
}

func drawUse(t *rapid.T) Use {
	u := Use{Kind: rapid.SampledFrom([]Kind{Subject, Addresses, Ports}).Draw(t, "kind"), Pair: Pair{Pods: drawSelector(t)}}
	if rapid.Bool().Draw(t, "one namespace") {
		u.Pair.Namespace = rapid.SampledFrom([]string{"x", "y"}).Draw(t, "namespace")
	} else {
		u.Pair.Namespaces = drawSelector(t)
	}
	if u.Kind == Ports {
		u.Port = policy.PortName{Protocol: policy.TCP, Name: "p"}
	}
	return u
}

func drawLabels(t *rapid.T) map[string]string {
	return rapid.MapOf(rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{"1", "2"})).Draw(t, "labels")
}

// world is what a book was told, from which the answers are computed anew.
type world struct {
	spaces map[string]map[string]string
	pods   map[PodKey]Pod
	seen   policy.Groups // As a follower has them, who sees changes alone.
}

func (w *world) members(u Use) []policy.Member {
	found := map[policy.Member]bool{}
	for _, p := range w.pods {
		space := map[string]string{nameLabel: p.Namespace}
		for k, v := range w.spaces[p.Namespace] {
			space[k] = v
		}
		if u.Pair.Namespace != p.Namespace && u.Pair.Namespace != "" || u.Pair.Namespace == "" && !u.Pair.Namespaces.Matches(space) ||
			!u.Pair.Pods.Matches(p.Labels) {
			continue
		}
		for _, a := range p.Addresses {
			if u.Kind == Addresses {
				found[policy.Member{Addr: a}] = true
			}
			for _, port := range p.Ports {
				if u.Kind == Ports {
					found[policy.Member{Addr: a, Port: port.Port}] = true
				}
			}
		}
	}
	var all []policy.Member
	for m := range found {
		all = append(all, m)
	}
	slices.SortFunc(all, CompareMembers)
	return all
}

func (w *world) follow(c Changes) {
	for _, g := range c.Groups {
		if g.Gone {
			delete(w.seen, g.ID)
			continue
		}
		if g.Whole {
			w.seen[g.ID] = map[policy.Member]struct{}{}
		}
		for _, m := range g.Added {
			w.seen[g.ID][m] = struct{}{}
		}
		for _, m := range g.Removed {
			delete(w.seen[g.ID], m)
		}
	}
}

func TestAnyHistoryLeavesWhatComputingAnewWould(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		b := NewBook()
		w := &world{spaces: map[string]map[string]string{}, pods: map[PodKey]Pod{}, seen: policy.Groups{}}
		var uses []Use
		name := rapid.SampledFrom([]string{"x", "y", "z"})
		t.Repeat(map[string]func(*rapid.T){
			"set namespace": func(t *rapid.T) {
				n, l := name.Draw(t, "name"), drawLabels(t)
				w.spaces[n] = l
				b.SetNamespace(n, l)
			},
			"delete namespace": func(t *rapid.T) {
				n := name.Draw(t, "name")
				delete(w.spaces, n)
				b.DeleteNamespace(n)
			},
			"set pod": func(t *rapid.T) {
				p := Pod{Namespace: name.Draw(t, "namespace"), Name: name.Draw(t, "name"), Labels: drawLabels(t)}
				p.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, rapid.Byte().Draw(t, "address") % 4})}
				if rapid.Bool().Draw(t, "port") {
					p.Ports = []policy.NamedPort{{Name: "p", Protocol: policy.TCP, Port: rapid.Uint16Range(1, 2).Draw(t, "number")}}
				}
				w.pods[PodKey{p.Namespace, p.Name}] = p
				b.SetPod(p)
			},
			"delete pod": func(t *rapid.T) {
				key := PodKey{name.Draw(t, "namespace"), name.Draw(t, "name")}
				delete(w.pods, key)
				b.DeletePod(key.Namespace, key.Name)
			},
			"retain": func(t *rapid.T) {
				u := drawUse(t)
				uses = append(uses, u)
				b.Retain(u)
			},
			"release": func(t *rapid.T) {
				if len(uses) == 0 {
					t.Skip()
				}
				i := rapid.IntRange(0, len(uses)-1).Draw(t, "use")
				b.Release(uses[i])
				uses = slices.Delete(uses, i, i+1)
			},
			"drain": func(t *rapid.T) { w.follow(b.Drain()) },
			"": func(t *rapid.T) {
				for _, u := range uses {
					if u.Kind == Subject {
						continue
					}
					got, ok := b.Members(u.ID())
					if want := w.members(u); !ok || !slices.Equal(got, want) {
						t.Fatalf("%s: got %v, want %v", u.Pair, got, want)
					}
				}
			},
		})
		w.follow(b.Drain())
		held := map[policy.GroupID]bool{}
		for _, u := range uses {
			if u.Kind == Subject {
				continue
			}
			held[u.ID()] = true
			if got, want := len(w.seen[u.ID()]), len(w.members(u)); got != want {
				t.Fatalf("a follower of %s has %d members, want %d", u.Pair, got, want)
			}
		}
		if len(w.seen) != len(held) {
			t.Fatalf("a follower has %d groups, want %d", len(w.seen), len(held))
		}
		for _, u := range uses {
			b.Release(u)
		}
		for key := range w.pods {
			b.DeletePod(key.Namespace, key.Name)
		}
		for n := range w.spaces {
			b.DeleteNamespace(n)
		}
		if left := len(b.groups) + len(b.scopes) + len(b.views) + len(b.pods) + len(b.namespaces) + len(b.labelled) + len(b.anchored) + len(b.loose) +
			len(b.spaces); left != 0 {
			t.Fatalf("%d things are left when everything is gone", left)
		}
	})
}
