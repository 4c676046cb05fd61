package nodeagent

import (
	"fmt"
	"strings"
	"sync"
	"testing"

	"github.com/hashicorp/go-hclog"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/damask-sdn/damask/internal/rpcerr"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
	"github.com/damask-sdn/damask/services/nodeagent/report"
)

// TestAPodWhosePoliciesNobodyKnowsIsRefused has tenancy say nothing of three pods: one has
// the labels of one that the node knows, another's are others, and so is the third's namespace.
func TestAPodWhosePoliciesNobodyKnowsIsRefused(t *testing.T) {
	state := complete(t)
	if _, err := state.SetIsolation(&tenancyv1.Isolation{Mode: tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY, Revision: 2}); err != nil {
		t.Fatal(err)
	}
	for _, namespace := range []string{"shop", "bank"} {
		state.SetNetNamespace(&tenancyv1.NetNamespace{Name: namespace, Netid: uint32(len(namespace)), Revision: 1})
	}
	log := hclog.NewNullLogger()
	p := &pods{
		node: "node1", state: state, policies: newPolicies("node1", state, intent.NewProgrammer(state, nil, log), log), log: log,
		reporter: report.New("node1", nil, nil, log), admitted: map[[2]string]bool{},
	}
	last := byte(5)
	attach := func(namespace, name, app string) (*cniv1.Attachment, intent.Pod) {
		a := &cniv1.Attachment{
			ContainerId: name, Ifname: "eth0", PodNamespace: namespace, PodName: name, Labels: map[string]string{"app": app},
			Ips: []string{fmt.Sprintf("10.130.0.%d/23", last)}, Ofport: uint32(last),
		}
		pod, err := podOf(a)
		if err != nil {
			t.Fatal(err)
		}
		last++
		state.AddPod(pod)
		return a, pod
	}
	known, pod := attach("shop", "known", "web")
	if _, err := state.SetPodPolicies(&tenancyv1.PodPolicies{Namespace: "shop", Name: "known", Node: "node1", SandboxId: "known", Ips: []string{pod.IP.String()}, Revision: 1}); err != nil {
		t.Fatal(err)
	}
	if err := p.admit(t.Context(), known, pod); err != nil {
		t.Fatalf("one whose policies are known: %v", err)
	}
	var waiting sync.WaitGroup
	for _, c := range []struct {
		namespace, name, app string
		taken                bool
	}{{"shop", "like", "web", true}, {"shop", "other", "db", false}, {"bank", "stranger", "web", false}} {
		a, pod := attach(c.namespace, c.name, c.app)
		waiting.Go(func() {
			err := p.admit(t.Context(), a, pod)
			switch {
			case c.taken && err != nil:
				t.Errorf("%s, with labels of one that is known: %v", c.name, err)
			case !c.taken && (status.Code(err) != codes.FailedPrecondition || rpcerr.Reason(err) != "UNKNOWN_POLICIES" || !strings.Contains(rpcerr.Message(err), c.namespace+"/"+c.name)):
				t.Errorf("%s is refused with %v", c.name, err)
			case state.Open(pod) != c.taken:
				t.Errorf("%s is open: %t", c.name, !c.taken)
			case p.policies.labels[c.namespace+"/"+c.name] != nil != c.taken:
				t.Errorf("the labels of %s are remembered: %t", c.name, !c.taken)
			}
		})
	}
	waiting.Wait()
}
