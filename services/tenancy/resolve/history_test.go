package resolve

import (
	"fmt"
	"net/netip"
	"reflect"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
	"github.com/damask-sdn/damask/services/tenancy/selector"
	"pgregory.net/rapid"
)

func drawSelector(t *rapid.T) selector.Selector {
	one := rapid.Custom(func(t *rapid.T) selector.Requirement {
		r := selector.Requirement{Key: rapid.SampledFrom([]string{"a", "b"}).Draw(t, "key"),
			Operator: rapid.SampledFrom([]selector.Operator{selector.In, selector.NotIn, selector.Exists}).Draw(t, "operator")}
		if r.Operator != selector.Exists {
			r.Values = []string{rapid.SampledFrom([]string{"1", "2"}).Draw(t, "value")}
		}
		return r
	})
	return selector.New(rapid.SliceOfN(one, 0, 2).Draw(t, "requirements")...)
}

func drawPolicy(t *rapid.T) policyspec.Policy {
	names := []string{"x", "y"}
	p := policyspec.Policy{Key: policy.Key{Kind: "NetworkPolicy", Namespace: rapid.SampledFrom(names).Draw(t, "namespace"),
		Name: rapid.SampledFrom(names).Draw(t, "name")}, Tier: policy.Namespace, Ingress: rapid.Bool().Draw(t, "in"), Egress: rapid.Bool().Draw(t, "out")}
	p.Subject = group.Pair{Namespace: p.Key.Namespace, Pods: drawSelector(t)}
	p.Rules = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) policyspec.Rule {
		r := policyspec.Rule{Direction: rapid.SampledFrom([]policy.Direction{policy.Ingress, policy.Egress}).Draw(t, "direction"), Action: policy.Allow}
		if r.AnyPort = rapid.Bool().Draw(t, "any port"); !r.AnyPort {
			r.Named = []policy.PortName{{Protocol: policy.TCP, Name: "p"}}
		}
		r.Peers = rapid.SliceOfN(rapid.Custom(func(t *rapid.T) policyspec.Peer {
			if rapid.IntRange(0, 3).Draw(t, "block") == 0 {
				return policyspec.Peer{Block: policy.Block{CIDR: netip.MustParsePrefix("10.0.0.0/30")}}
			}
			return policyspec.Peer{Pods: &group.Pair{Namespaces: drawSelector(t), Pods: drawSelector(t)}}
		}), 0, 2).Draw(t, "peers")
		r.AnyPeer = len(r.Peers) == 0
		return r
	}), 0, 2).Draw(t, "rules")
	return p
}

func drawPod(t *rapid.T) group.Pod {
	names := []string{"x", "y"}
	p := group.Pod{Namespace: rapid.SampledFrom(names).Draw(t, "namespace"), Name: rapid.SampledFrom(names).Draw(t, "name"), Labels: drawLabels(t)}
	p.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, 0, byte(rapid.IntRange(0, 5).Draw(t, "address"))})}
	if rapid.Bool().Draw(t, "port") {
		p.Ports = []policy.NamedPort{{Name: "p", Protocol: policy.TCP, Port: rapid.Uint16Range(1, 2).Draw(t, "number")}}
	}
	return p
}

func drawLabels(t *rapid.T) map[string]string {
	return rapid.MapOf(rapid.SampledFrom([]string{"a", "b"}), rapid.SampledFrom([]string{"1", "2"})).Draw(t, "labels")
}

// told is what a resolver was told, and can be told again.
type told struct {
	spaces   map[string]map[string]string
	pods     map[group.PodKey]group.Pod
	policies map[policy.Key]policyspec.Policy
}

// again is what a follower has who only now comes to a resolver that only now
// is told of everything.
func (w *told) again() *view {
	r, v := New(), newView()
	for _, p := range w.policies {
		r.SetPolicy(p)
	}
	for _, p := range w.pods {
		r.SetPod(p)
	}
	for name, labels := range w.spaces {
		r.SetNamespace(name, labels)
	}
	v.follow(r.Drain())
	return v
}

func TestAFollowerOfAnyHistoryHasWhatOneWhoComesLateHas(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r, v := New(), newView()
		w := &told{map[string]map[string]string{}, map[group.PodKey]group.Pod{}, map[policy.Key]policyspec.Policy{}}
		names := rapid.SampledFrom([]string{"x", "y"})
		t.Repeat(map[string]func(*rapid.T){
			"namespace": func(t *rapid.T) {
				n, l := names.Draw(t, "name"), drawLabels(t)
				w.spaces[n] = l
				r.SetNamespace(n, l)
			},
			"no namespace": func(t *rapid.T) {
				n := names.Draw(t, "name")
				delete(w.spaces, n)
				r.DeleteNamespace(n)
			},
			"pod": func(t *rapid.T) {
				p := drawPod(t)
				w.pods[group.PodKey{Namespace: p.Namespace, Name: p.Name}] = p
				r.SetPod(p)
			},
			"no pod": func(t *rapid.T) {
				key := group.PodKey{Namespace: names.Draw(t, "namespace"), Name: names.Draw(t, "name")}
				delete(w.pods, key)
				r.DeletePod(key.Namespace, key.Name)
			},
			"policy": func(t *rapid.T) {
				p := drawPolicy(t)
				w.policies[p.Key] = p
				r.SetPolicy(p)
			},
			"no policy": func(t *rapid.T) {
				key := policy.Key{Kind: "NetworkPolicy", Namespace: names.Draw(t, "namespace"), Name: names.Draw(t, "name")}
				delete(w.policies, key)
				r.DeletePolicy(key)
			},
			"drain": func(t *rapid.T) { v.follow(r.Drain()) },
		})
		v.follow(r.Drain())
		if want := w.again(); !reflect.DeepEqual(v, want) {
			t.Fatalf("got  %s\nwant %s", v, want)
		}
		for id := range v.groups {
			if _, ok := r.Members(id); !ok {
				t.Fatalf("group %s is handed out, and not there", id)
			}
		}
	})
}

// String writes what a follower has, for failures.
func (v *view) String() string {
	text := fmt.Sprint(v.groups)
	for _, p := range v.policies {
		text += fmt.Sprintf(" %+v", *p)
	}
	for _, p := range v.pods {
		text += fmt.Sprintf(" %+v", *p)
	}
	return text
}

func TestAChangeThatSaysNothingNewHandsNothingOut(t *testing.T) {
	r := cluster()
	manifest := networkPolicy("p", `{"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}`)
	set(t, r, manifest)
	r.Drain()
	set(t, r, manifest)
	r.SetNamespace("shop", map[string]string{"team": "blue"})
	r.SetPod(group.Pod{Namespace: "shop", Name: "db", Addresses: []netip.Addr{places()["shop/db"]}, Labels: map[string]string{"app": "db"}})
	if c := r.Drain(); !reflect.DeepEqual(c, Changes{}) {
		t.Errorf("got %+v", c)
	}
}

func TestAPodThatLeavesIsOneMoveAndItsSuccessorAnother(t *testing.T) {
	r := cluster()
	set(t, r, networkPolicy("p", `{"podSelector": {}, "ingress": [{"from": [{"podSelector": {}}]}]}`))
	r.Drain()
	r.DeletePod("shop", "db")
	c := r.Drain()
	if len(c.Groups) != 1 || len(c.Groups[0].Removed) != 1 || len(c.Groups[0].Added) != 0 || len(c.GonePods) != 1 || len(c.Policies) != 0 {
		t.Errorf("a pod that is gone: got %+v", c)
	}
	r.SetPod(group.Pod{Namespace: "shop", Name: "db", Addresses: []netip.Addr{places()["shop/db"]}})
	c = r.Drain()
	if len(c.Groups) != 1 || len(c.Groups[0].Added) != 1 || len(c.Pods) != 1 || len(c.Pods[0].Policies) != 1 || len(c.Policies) != 0 {
		t.Errorf("another pod with its address: got %+v", c)
	}
}
