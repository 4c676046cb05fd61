package intent

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// policyState is a state in a mode in which policies decide, with the VNID of namespace n.
func policyState(t *testing.T) *State {
	t.Helper()
	s := NewState("self", true)
	_, network := s.SetClusterNetwork(plan1())
	_, subnet := s.SetHostSubnet(hostSubnet("self", "192.0.2.1", "10.128.0.0/23", 2))
	_, mode := s.SetIsolation(&tenancyv1.Isolation{Mode: tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY, Revision: 3})
	for _, err := range []error{network, subnet, mode} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s.SetNetNamespace(namespace("n", 10, 4))
	return s
}

func localPod(name, sandbox, ip string, port uint32) Pod {
	return Pod{Namespace: "n", Name: name, Sandbox: sandbox, Ifname: "eth0", IP: netip.MustParseAddr(ip), Port: port}
}

// place says which policies apply to a pod.
func place(t *testing.T, s *State, p Pod, revision uint64, policies ...policy.Key) Change {
	t.Helper()
	m := policywire.PodPolicies(&policywire.Placed{Node: "self", Sandbox: p.Sandbox, Pod: policy.Pod{
		Namespace: p.Namespace, Name: p.Name, Addresses: []netip.Addr{p.IP}, Policies: policies,
	}})
	m.Revision = revision
	change, err := s.SetPodPolicies(m)
	if err != nil {
		t.Fatal(err)
	}
	return change
}

// setPolicy sets a policy that lets its pods send to a block and to a group.
func setPolicy(t *testing.T, s *State, name, block string, revision uint64) Change {
	t.Helper()
	m := policywire.Policy(&policy.Policy{
		Key: policy.Key{Kind: "NetworkPolicy", Namespace: "n", Name: name}, Tier: policy.Namespace, Egress: true,
		Rules: []policy.Rule{{Direction: policy.Egress, Action: policy.Allow, AnyPort: true, Peers: []policy.Peer{
			{Block: policy.Block{CIDR: netip.MustParsePrefix(block)}}, {Group: "g"},
		}}},
	})
	m.Revision = revision
	change, err := s.SetPolicy(m)
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func setGroup(t *testing.T, s *State, revision uint64) Change {
	t.Helper()
	change, err := s.SetAddressGroupShard(&tenancyv1.AddressGroupShard{Group: "g", Shards: 1, Revision: revision})
	if err != nil {
		t.Fatal(err)
	}
	return change
}

func TestAPodIsClosedUntilWhatAppliesToItIsInForce(t *testing.T) {
	s := policyState(t)
	p := localPod("a", "s1", "10.128.0.5", 3)
	key := policy.Key{Kind: "NetworkPolicy", Namespace: "n", Name: "p"}
	wantOpen := func(when string, want bool) {
		t.Helper()
		if got := s.Open(p); got != want {
			t.Errorf("%s: open is %t, want %t", when, got, want)
		}
	}
	s.AddPod(p)
	wantOpen("nothing is known", false)
	place(t, s, localPod("a", "s0", "10.128.0.5", 3), 10)
	wantOpen("another sandbox's policies are known", false)
	place(t, s, p, 11, key)
	wantOpen("the policy is not known", false)
	if got := s.WantedPolicies(); len(got) != 1 {
		t.Errorf("wanted policies: %v, want one", got)
	}
	if change := setPolicy(t, s, "p", "192.0.2.0/24", 12); len(change.Objects) != 0 {
		t.Errorf("a policy without its group is said to be in force: %v", change.Objects)
	}
	wantOpen("the group is not known", false)
	change := setGroup(t, s, 13)
	wantOpen("all is known", true)
	want := []Object{{KindAddressGroup, "g/0"}, {KindPodPolicies, "self/n/a"}, {KindPolicy, "NetworkPolicy/n/p"}}
	slices.SortFunc(change.Objects, func(a, b Object) int { return strings.Compare(a.Kind, b.Kind) })
	if !slices.Equal(change.Objects, want) || !slices.Contains(change.Owners, p.Owner()) || !change.Policies {
		t.Errorf("got %+v, want the objects %v and the pod", change, want)
	}
	setPolicy(t, s, "p", "198.51.100.0/24", 14)
	wantOpen("the policy changes", true)
	s.DeletePodPolicies("n", "a")
	wantOpen("the pod is not in the registry any more", false)
	place(t, s, p, 15)
	wantOpen("no policy applies", true)
}

func TestAPodTakesThePoliciesOfAnotherWhenItMust(t *testing.T) {
	s := policyState(t)
	known, other := localPod("a", "s1", "10.128.0.5", 3), localPod("b", "s2", "10.128.0.6", 4)
	s.AddPod(known)
	place(t, s, known, 10)
	s.AddPod(other)
	if s.Open(other) {
		t.Error("open without policies")
	}
	if _, err := s.AssumePolicies(other, nil, "c"); err == nil {
		t.Error("policies of a pod that is not known were assumed")
	}
	if _, err := s.AssumePolicies(other, nil, "a"); err != nil || !s.Open(other) {
		t.Errorf("closed with the policies of another pod: %v", err)
	}
	place(t, s, other, 11, policy.Key{Kind: "NetworkPolicy", Namespace: "n", Name: "p"})
	if !s.Open(other) {
		t.Error("closed when its own policies are on their way")
	}
}

func TestServicesThatLeadOutsideAreJudgedWhereTheyAreAsked(t *testing.T) {
	s := policyState(t)
	p := localPod("a", "s1", "10.128.0.5", 3)
	s.AddPod(p)
	setGroup(t, s, 10)
	setPolicy(t, s, "p", "192.0.2.0/24", 11)
	place(t, s, p, 12, policy.Key{Kind: "NetworkPolicy", Namespace: "n", Name: "p"})
	service := func(backends ...string) *OutsideService {
		o := &OutsideService{ClusterIPs: []netip.Addr{netip.MustParseAddr("172.30.0.1")}, Port: pipeline.ServicePort{Protocol: pipeline.TCP, Port: 443}}
		for _, b := range backends {
			o.Backends = append(o.Backends, OutsideBackend{netip.MustParseAddr(b), 6443})
		}
		return o
	}
	const flow = "table=21, priority=300,tcp,nw_src=10.128.0.5,nw_dst=172.30.0.1,tp_dst=443 actions=drop"
	for _, c := range []struct {
		name   string
		with   *OutsideService
		denied bool
	}{
		{"all backends may be asked", service("192.0.2.7", "192.0.2.8"), false},
		{"one may not", service("192.0.2.7", "203.0.113.8"), true},
		{"only pods", service("10.129.0.7"), false},
		{"none may be asked", service("203.0.113.8"), true},
		{"it is gone", nil, false},
	} {
		s.SetOutsideServices(false, map[string]*OutsideService{"default/kubernetes": c.with})
		var got []string
		for _, f := range s.compile(outsideOwner + p.Owner()) {
			got = append(got, f.String())
		}
		if c.denied != slices.Contains(got, flow) || len(got) > 1 {
			t.Errorf("%s: got %q, denied should be %t", c.name, got, c.denied)
		}
	}
	s.SetOutsideServices(true, map[string]*OutsideService{"default/kubernetes": service("203.0.113.8")})
	change := setPolicy(t, s, "p", "203.0.113.0/24", 13)
	if flows := s.compile(outsideOwner + p.Owner()); len(flows) != 0 || !slices.Contains(change.Owners, outsideOwner+p.Owner()) {
		t.Errorf("a policy that lets the backend be asked: flows %v, change %+v", flows, change)
	}
}

func TestWhetherConnectionsAreCutCanChange(t *testing.T) {
	s := policyState(t)
	text := func() string {
		var all []string
		for _, f := range s.compile(baseOwner) {
			all = append(all, f.String())
		}
		return strings.Join(all, "\n")
	}
	if change := s.KeepConnections(false); !change.empty() {
		t.Errorf("what is so changes %q", change.Owners)
	}
	cut := text()
	change := s.KeepConnections(true)
	kept := text()
	if !slices.Equal(change.Owners, []string{baseOwner}) || kept == cut {
		t.Errorf("%q are compiled, and the flows stay the same: %t", change.Owners, kept == cut)
	}
	if s.KeepConnections(false); text() != cut {
		t.Errorf("there and back the flows are\n%s\nnot\n%s", text(), cut)
	}
	for owner, flows := range s.CompileAll() {
		if owner == baseOwner {
			continue
		}
		s.KeepConnections(true)
		if again := s.compile(owner); fmt.Sprint(flows) != fmt.Sprint(again) {
			t.Errorf("it also matters to %s", owner)
		}
		s.KeepConnections(false)
	}
}
