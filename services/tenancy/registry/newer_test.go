package registry

import (
	"testing"
	"time"

	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"google.golang.org/protobuf/types/known/timestamppb"
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
	never := time.Time{}
	cases := []struct {
		name           string
		stored, report *tenancyv1.Pod
		want           verdict
	}{
		{"a pod that is not known", nil, pod("n1", "s1", noon), replaces},
		{"the same report again", pod("n1", "s1", noon, "10.1.0.2"), pod("n1", "s1", noon, "10.1.0.2"), unchanged},
		{"the same report without a time", pod("n1", "s1", noon), pod("n1", "s1", never), unchanged},
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
