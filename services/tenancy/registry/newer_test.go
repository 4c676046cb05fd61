package registry

import (
	"testing"
	"time"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/timestamppb"
	"pgregory.net/rapid"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

func TestJudgeKnowsTheNewerSandbox(t *testing.T) {
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	pod := func(node, sandbox string, attached time.Time, ips ...string) *tenancyv1.Pod {
		p := &tenancyv1.Pod{Namespace: "shop", Name: "web", Node: node, SandboxId: sandbox, Ips: ips}
		if !attached.IsZero() {
			p.AttachTime = timestamppb.New(attached)
		}
		return p
	}
	with := func(p *tenancyv1.Pod, port, zone string) *tenancyv1.Pod {
		if p.Zone = zone; port != "" {
			p.Ports = []*tenancyv1.ContainerPort{{Name: port, ContainerPort: 8080}}
		}
		return p
	}
	uid := func(p *tenancyv1.Pod) *tenancyv1.Pod {
		p.Uid = "u1"
		return p
	}
	never := time.Time{}
	cases := []struct {
		name           string
		stored, report *tenancyv1.Pod
		want           verdict
	}{
		{"a pod that is not known", nil, pod("n1", "s1", noon), replaces},
		{"the same report again", pod("n1", "s1", noon, "10.1.0.2"), pod("n1", "s1", noon, "10.1.0.2"), unchanged},
		{"the same report without a time", pod("n1", "s1", noon), pod("n1", "s1", never), unchanged},
		{"the same sandbox with other ports", pod("n1", "s1", noon), with(pod("n1", "s1", noon), "http", ""), replaces},
		{"the same ports, a protocol by default", with(pod("n1", "s1", noon), "http", ""), with(pod("n1", "s1", noon), "http", ""), unchanged},
		{"the same sandbox in another zone", pod("n1", "s1", noon), with(pod("n1", "s1", noon), "", "west"), replaces},
		{"the same sandbox, and now it is known of which Pod", pod("n1", "s1", noon), uid(pod("n1", "s1", noon)), replaces},
		{"the same sandbox with another address", pod("n1", "s1", noon, "10.1.0.2"), pod("n1", "s1", noon, "10.1.0.3"), replaces},
		{"a later sandbox on another node", pod("n1", "s1", noon), pod("n2", "s2", noon.Add(time.Second)), replaces},
		{"an earlier sandbox on another node", pod("n1", "s1", noon), pod("n2", "s2", noon.Add(-time.Second)), superseded},
		{"a sandbox of unknown age on another node counts as new", pod("n1", "s1", noon.Add(-time.Hour)), pod("n2", "s2", never), replaces},
		{"two of one age: the report wins", pod("n1", "s1", noon), pod("n2", "s2", noon), replaces},
		{"an earlier sandbox on the same node: the node knows best", pod("n1", "s1", noon), pod("n1", "s2", noon.Add(-time.Hour)), replaces},
		{"one sandbox id on two nodes is two sandboxes", pod("n1", "s1", noon), pod("n2", "s1", noon.Add(-time.Hour)), superseded},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			if c.stored != nil { // as an earlier report left it
				_, c.stored = judge(nil, c.stored, noon)
			}
			got, next := judge(c.stored, c.report, noon)
			if got != c.want {
				t.Fatalf("verdict %d, want %d", got, c.want)
			}
			if (next != nil) != (got == replaces) {
				t.Fatalf("next is %v", next)
			}
			if next != nil && next.GetAttachTime() == nil {
				t.Error("a stored pod has no attach time")
			}
		})
	}
}

func TestNoReportChangesWhatSomebodyElseSaidOfThePod(t *testing.T) {
	noon := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	report := func(node, sandbox, ip string) *tenancyv1.Pod {
		return &tenancyv1.Pod{
			Namespace: "shop", Name: "web", Node: node, SandboxId: sandbox, Ips: []string{ip},
			Conditions: &tenancyv1.PodConditions{Ready: proto.Bool(true)}, // not an agent's to say
		}
	}
	_, stored := judge(nil, report("n1", "s1", "10.1.0.2"), noon)
	if stored.GetConditions() != nil {
		t.Errorf("a first report stores %v", stored.GetConditions())
	}
	stored.Conditions = &tenancyv1.PodConditions{Ready: proto.Bool(false), Terminating: proto.Bool(true)}
	if got, _ := judge(stored, report("n1", "s1", "10.1.0.2"), noon); got != unchanged {
		t.Errorf("the same report again: verdict %d", got)
	}
	if _, next := judge(stored, report("n1", "s1", "10.1.0.3"), noon); !proto.Equal(next.GetConditions(), stored.GetConditions()) {
		t.Errorf("another address: %v", next.GetConditions())
	}
	for what, other := range map[string]*tenancyv1.Pod{"another sandbox": report("n1", "s2", "10.1.0.2"), "another node": report("n2", "s1", "10.1.0.2")} {
		if _, next := judge(stored, other, noon); next == nil || next.GetConditions() != nil {
			t.Errorf("%s begins with %v", what, next.GetConditions())
		}
	}
}

// TestConditionsAreWhatWasSaidLast says things of a pod in any order, and
// compares with what was said last of each.
func TestConditionsAreWhatWasSaidLast(t *testing.T) {
	said := rapid.SampledFrom([]*bool{nil, proto.Bool(true), proto.Bool(false)})
	rapid.Check(t, func(rt *rapid.T) {
		var stored *tenancyv1.PodConditions
		ready, terminating := true, false
		for range rapid.IntRange(1, 10).Draw(rt, "times") {
			given := &tenancyv1.PodConditions{Ready: said.Draw(rt, "ready"), Terminating: said.Draw(rt, "terminating")}
			stored = settle(stored, given)
			if given.Ready != nil {
				ready = given.GetReady()
			}
			if given.Terminating != nil {
				terminating = given.GetTerminating()
			}
			if got := stored == nil || stored.Ready == nil || stored.GetReady(); got != ready || stored.GetTerminating() != terminating {
				rt.Fatalf("stored %v, want ready %v, terminating %v", stored, ready, terminating)
			}
			if (stored == nil) != (ready && !terminating) || !proto.Equal(settle(stored, given), stored) {
				rt.Fatalf("%v has more than one form", stored)
			}
		}
	})
}
