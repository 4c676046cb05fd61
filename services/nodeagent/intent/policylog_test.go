package intent

import (
	"net/netip"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
)

// tellers are the cookies of the flows of policies that make copies, and their tables.
func tellers(s *State) map[uint64]uint8 {
	all := map[uint64]uint8{}
	for owner, flows := range s.CompileAll() {
		for _, f := range flows {
			if f.Copies() {
				all[flowsync.Cookie(owner)] = f.Table
			}
		}
	}
	return all
}

func TestDecisionsAreKnownByTheirFlowsOfThoseWhoAsk(t *testing.T) {
	s := policyState(t)
	pod, peer, stranger := localPod("a", "s", "10.128.0.2", 3), netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("198.51.100.1")
	s.AddPod(pod)
	setGroup(t, s, 5)
	setPolicy(t, s, "p", "192.0.2.0/24", 6)
	place(t, s, pod, 7, policy.Key{Kind: "NetworkPolicy", Namespace: "n", Name: "p"})
	ask := func(denied, allowed bool, revision uint64) Change {
		nn := namespace("n", 10, revision)
		nn.PolicyLogDenied, nn.PolicyLogAllowed = denied, allowed
		return s.SetNetNamespace(nn)
	}
	if change := ask(true, true, 8); change.Policies || len(tellers(s)) != 0 {
		t.Errorf("nobody logs, and %v copies", tellers(s))
	}
	s.FollowDecisions()
	all := tellers(s)
	if len(all) != 2 {
		t.Fatalf("%v copy, want a rule and an isolation", all)
	}
	verdicts := map[bool]bool{}
	for cookie, table := range all {
		d, logs := s.DecisionOf(cookie, table, pod.IP, peer)
		if !logs || d.Pod != "a" || d.Namespace != "n" || d.Direction != policy.Egress || d.Allowed != (d.Policy.Name == "p") {
			t.Errorf("cookie %#x decides %+v, %t", cookie, d, logs)
		}
		verdicts[d.Allowed] = true
		if d, logs := s.DecisionOf(cookie, table, stranger, peer); logs {
			t.Errorf("of a pod that is not here it decides %+v", d)
		}
	}
	if len(verdicts) != 2 {
		t.Errorf("verdicts are %v", verdicts)
	}
	if change := ask(true, false, 9); !change.Policies || len(tellers(s)) != 1 {
		t.Errorf("denied alone: the change is %+v, and %v copy", change, tellers(s))
	}
	told := 0
	for cookie, table := range all { // Copies that were on their way.
		if d, logs := s.DecisionOf(cookie, table, pod.IP, peer); logs {
			told++
			if d.Allowed {
				t.Errorf("nobody asks for %+v", d)
			}
		}
	}
	if told != 1 {
		t.Errorf("%d of them are told", told)
	}
	if change := s.DeleteNetNamespace("n"); !change.Policies || len(tellers(s)) != 0 {
		t.Errorf("without the namespace the change is %+v, and %v copy", change, tellers(s))
	}
	s.SetNetNamespace(&tenancyv1.NetNamespace{Name: "n", Netid: 10, Revision: 11})
	s.RemovePod(pod)
	for cookie, table := range all {
		if d, logs := s.DecisionOf(cookie, table, pod.IP, peer); logs {
			t.Errorf("of a pod that is gone %+v is told", d)
		}
	}
}
