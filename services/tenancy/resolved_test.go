package tenancy

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/identity/identitytest"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
	"github.com/damask-sdn/damask/services/tenancy/resolve"
)

// resolved is what policies come down to, as somebody who follows knows it.
type resolved struct {
	policies map[policy.Key]policy.Policy
	groups   map[policy.GroupID][]policy.Member
	pods     map[string]policywire.Placed
}

func (r resolved) String() string {
	return fmt.Sprintf("%d policies, %d groups, %d pods", len(r.policies), len(r.groups), len(r.pods))
}

// each reads the objects of a kind in a snapshot.
func each[T proto.Message](t *testing.T, s bucket.Snapshot, kind string, visit func(T)) {
	t.Helper()
	for m, err := range bucket.NewTable[T](kind).Scan(s) {
		if err != nil {
			t.Fatal(err)
		}
		visit(m)
	}
}

// stored is what a snapshot has.
func stored(t *testing.T, s bucket.Snapshot) resolved {
	t.Helper()
	r := resolved{map[policy.Key]policy.Policy{}, map[policy.GroupID][]policy.Member{}, map[string]policywire.Placed{}}
	each(t, s, policywire.KindPolicy, func(m *tenancyv1.ResolvedPolicy) {
		p, err := policywire.ReadPolicy(m)
		if err != nil {
			t.Fatal(err)
		}
		r.policies[p.Key] = p
	})
	gathered, ids := policywire.NewGathered(), map[policy.GroupID]bool{}
	each(t, s, policywire.KindAddressGroup, func(m *tenancyv1.AddressGroupShard) {
		if m.GetShard() >= m.GetShards() {
			t.Errorf("group %s has shard %d of %d", m.GetGroup(), m.GetShard(), m.GetShards())
		}
		move, err := gathered.Set(m)
		if err != nil {
			t.Fatal(err)
		}
		ids[move.ID] = true
	})
	for id := range ids {
		members, known := gathered.Members(id)
		if !known {
			t.Errorf("group %s is not complete", id)
		}
		r.groups[id] = members
	}
	each(t, s, policywire.KindPodPolicies, func(m *tenancyv1.PodPolicies) {
		p, err := policywire.ReadPodPolicies(m)
		if err != nil {
			t.Fatal(err)
		}
		r.pods[policywire.NameOfPod(m)] = p
	})
	return r
}

// computed is what follows from the namespaces, pods and policies of a
// snapshot, computed from nothing.
func computed(t *testing.T, s bucket.Snapshot) resolved {
	t.Helper()
	r := resolve.New()
	out := resolved{map[policy.Key]policy.Policy{}, map[policy.GroupID][]policy.Member{}, map[string]policywire.Placed{}}
	each(t, s, "netnamespace", func(m *tenancyv1.NetNamespace) { r.SetNamespace(m.GetName(), m.GetLabels()) })
	var pods []*tenancyv1.Pod
	each(t, s, "pod", func(m *tenancyv1.Pod) {
		if m.GetConditions().GetCompleted() {
			return
		}
		pod := group.Pod{Namespace: m.GetNamespace(), Name: m.GetName(), Labels: m.GetLabels()}
		for _, ip := range m.GetIps() {
			pod.Addresses = append(pod.Addresses, netip.MustParseAddr(ip))
		}
		for _, p := range m.GetPorts() {
			number := map[tenancyv1.Protocol]policy.Protocol{1: policy.TCP, 2: policy.UDP, 3: policy.SCTP}[p.GetProtocol()]
			pod.Ports = append(pod.Ports, policy.NamedPort{Name: p.GetName(), Protocol: number, Port: uint16(p.GetContainerPort())}) //nolint:gosec // a test's
		}
		r.SetPod(pod)
		pods = append(pods, m)
	})
	each(t, s, "networkpolicy", func(m *tenancyv1.NetworkPolicy) {
		p, violations := policyspec.Parse([]byte(m.GetManifest()))
		if violations != nil {
			t.Fatal(violations)
		}
		r.SetPolicy(p)
	})
	c := r.Drain()
	for _, g := range c.Groups {
		out.groups[g.ID] = g.Added
		if g.Added == nil {
			out.groups[g.ID] = []policy.Member{}
		}
	}
	for _, p := range c.Policies {
		out.policies[p.Key] = p
	}
	for _, m := range pods {
		p, _ := r.Pod(group.PodKey{Namespace: m.GetNamespace(), Name: m.GetName()})
		out.pods[m.GetNode()+"/"+m.GetNamespace()+"/"+m.GetName()] = policywire.Placed{Node: m.GetNode(), Sandbox: m.GetSandboxId(), Pod: p}
	}
	return out
}

// checkResolved compares what is stored with what follows from the rest.
func checkResolved(t *testing.T, s bucket.Snapshot) resolved {
	t.Helper()
	got, want := stored(t, s), computed(t, s)
	compare(t, "policies", got.policies, want.policies)
	compare(t, "groups", got.groups, want.groups)
	compare(t, "pods", got.pods, want.pods)
	return got
}

func compare[K comparable, V any](t *testing.T, what string, got, want map[K]V) {
	t.Helper()
	for k, v := range want {
		if g, there := got[k]; !there || fmt.Sprintf("%+v", g) != fmt.Sprintf("%+v", v) {
			t.Errorf("%s %v: stored %+v (%v), want %+v", what, k, g, there, v)
		}
	}
	for k := range got {
		if _, there := want[k]; !there {
			t.Errorf("%s %v is stored, and follows from nothing", what, k)
		}
	}
}

// snapshot is the store as somebody else reads it.
func (s *system) snapshot() bucket.Snapshot {
	s.t.Helper()
	return read(s.t, s.store, s.ca.Source(s.t, identitytest.Service(s.t, serviceName)))
}

// resolvedKeys is what a snapshot has of resolved keys, with their revisions.
func resolvedKeys(s bucket.Snapshot) map[string]uint64 {
	keys := map[string]uint64{}
	for _, kind := range []string{policywire.KindPolicy, policywire.KindAddressGroup, policywire.KindPodPolicies} {
		for e := range s.Scan(kind+".", "") {
			keys[e.Key] = e.Revision
		}
	}
	return keys
}

// kindsOf counts keys by kind.
func kindsOf(keys []string) map[string]int {
	counts := map[string]int{}
	for _, key := range keys {
		kind, _, _ := strings.Cut(key, ".")
		counts[kind]++
	}
	return counts
}

// differing answers the keys that one of two states has otherwise, in order.
func differing(a, b map[string]uint64) []string {
	keys := map[string]bool{}
	for k, v := range a {
		if w, there := b[k]; !there || v != w {
			keys[k] = true
		}
	}
	for k := range b {
		if _, there := a[k]; !there {
			keys[k] = true
		}
	}
	return slices.Sorted(maps.Keys(keys))
}
