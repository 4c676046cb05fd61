package tenancy

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/rpcerr"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/vnid"
)

// manifest is a NetworkPolicy whose spec is given as flow-style YAML.
func manifest(namespace, name, spec string) string {
	return fmt.Sprintf("apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {name: %s, namespace: %s}\nspec: %s\n", name, namespace, spec)
}

const fromApp = `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 80}]}]}`

func key(namespace, name string) *tenancyv1.PolicyKey {
	return &tenancyv1.PolicyKey{Kind: "NetworkPolicy", Namespace: namespace, Name: name}
}

func (c client) apply(t *testing.T, manifest string) *tenancyv1.NetworkPolicy {
	t.Helper()
	answer, err := c.ApplyNetworkPolicy(soon(t), &tenancyv1.ApplyNetworkPolicyRequest{Manifest: manifest})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetNetworkPolicy()
}

// resolved waits until what follows from a revision is stored.
func (c client) resolved(t *testing.T, revision uint64) uint64 {
	t.Helper()
	answer, err := c.WaitResolved(soon(t), &tenancyv1.WaitResolvedRequest{Revision: revision})
	if err != nil {
		t.Fatalf("revision %d: %v", revision, err)
	}
	return answer.GetSequence()
}

// registerPod reports a pod of node n1.
func (c client) registerPod(t *testing.T, pod *tenancyv1.Pod) *tenancyv1.Pod {
	t.Helper()
	answer, err := c.RegisterPod(soon(t), &tenancyv1.RegisterPodRequest{Pod: pod})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetPod()
}

func podOf(namespace, name, ip string, labels map[string]string) *tenancyv1.Pod {
	return &tenancyv1.Pod{Namespace: namespace, Name: name, Node: "n1", SandboxId: "s-" + name, Ips: []string{ip}, Labels: labels}
}

func TestAPolicyIsAppliedReadAndDeleted(t *testing.T) {
	sys := start(t, vnid.Default())
	op := sys.operator()
	text := manifest("shop", "allow-web", fromApp)
	first := op.apply(t, text)
	if again := op.apply(t, text); again.GetRevision() != first.GetRevision() {
		t.Errorf("the same manifest again has revision %d, and had %d", again.GetRevision(), first.GetRevision())
	}
	op.resolved(t, first.GetRevision())
	got, err := op.GetNetworkPolicy(soon(t), &tenancyv1.GetNetworkPolicyRequest{Key: key("shop", "allow-web")})
	if err != nil {
		t.Fatal(err)
	}
	p := got.GetNetworkPolicy()
	if p.GetManifest() != text || !proto.Equal(p.GetKey(), key("shop", "allow-web")) {
		t.Errorf("got %v", p)
	}
	for _, c := range p.GetStatus().GetConditions() {
		if !c.GetStatus() {
			t.Errorf("condition %v", c)
		}
	}
	if s := p.GetStatus(); s.GetResolvedRevision() <= first.GetRevision() || s.GetGroups() != 1 || s.GetMembers() != 0 {
		t.Errorf("status %v", s)
	}
	op.apply(t, manifest("other", "allow-web", fromApp))
	list, err := op.ListNetworkPolicies(soon(t), &tenancyv1.ListNetworkPoliciesRequest{Namespace: "shop"})
	if err != nil || len(list.GetNetworkPolicies()) != 1 {
		t.Errorf("got %v, %v", list, err)
	}
	deleted, err := op.DeleteNetworkPolicy(soon(t), &tenancyv1.DeleteNetworkPolicyRequest{Key: key("shop", "allow-web")})
	if err != nil {
		t.Fatal(err)
	}
	op.resolved(t, deleted.GetRevision())
	deleted, err = op.DeleteNetworkPolicy(soon(t), &tenancyv1.DeleteNetworkPolicyRequest{Key: key("shop", "allow-web")})
	if err != nil {
		t.Fatal(err)
	}
	op.resolved(t, deleted.GetRevision()) // of what was gone already
	if _, err := op.GetNetworkPolicy(soon(t), &tenancyv1.GetNetworkPolicyRequest{Key: key("shop", "allow-web")}); status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
	if left := checkResolved(t, sys.snapshot()); len(left.policies) != 1 {
		t.Errorf("left are %v", left)
	}
}

func TestWhatIsNotSupportedIsRefusedAndWhatWasThereStays(t *testing.T) {
	sys := start(t, vnid.Default())
	op := sys.operator()
	first := op.apply(t, manifest("shop", "p", fromApp))
	_, err := op.ApplyNetworkPolicy(soon(t), &tenancyv1.ApplyNetworkPolicyRequest{
		Manifest: manifest("shop", "p", `{podSelector: {}, magic: 1, ingress: [{from: [{ipBlock: {cidr: 10.0.0.0}}]}]}`),
	})
	var got []string
	for _, v := range rpcerr.List(err) {
		got = append(got, v.Field)
	}
	if want := []string{"spec.magic", "spec.ingress[0].from[0].ipBlock.cidr"}; status.Code(err) != codes.InvalidArgument || !slices.Equal(got, want) {
		t.Errorf("got %v: %v, want %v", got, err, want)
	}
	if again := op.apply(t, manifest("shop", "p", fromApp)); again.GetRevision() != first.GetRevision() {
		t.Error("what was stored has changed")
	}
	bad := &tenancyv1.PolicyKey{Kind: "Pod", Namespace: "a_b", Name: ""}
	_, err = op.DeleteNetworkPolicy(soon(t), &tenancyv1.DeleteNetworkPolicyRequest{Key: bad})
	if len(rpcerr.List(err)) < 2 {
		t.Errorf("got %v", err)
	}
	_, err = op.ExplainConnection(soon(t), &tenancyv1.ExplainConnectionRequest{Protocol: 9, Port: 70000})
	if len(rpcerr.List(err)) != 4 {
		t.Errorf("got %v", err)
	}
	if _, err := sys.node("n1").ListPodPolicies(soon(t), &tenancyv1.ListPodPoliciesRequest{Node: "n2"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("a node read another one's pods: %v", err)
	}
}

func TestOnePodsChangeWritesWhatItChangesAndNothingElse(t *testing.T) {
	sys := start(t, vnid.Default())
	op, node := sys.operator(), sys.node("n1")
	for i := range 300 { // two shards
		node.registerPod(t, podOf("shop", fmt.Sprintf("client-%d", i), fmt.Sprintf("10.1.%d.%d", i/200, i%200+1), map[string]string{"app": "client"}))
	}
	web := node.registerPod(t, podOf("shop", "web", "10.1.9.1", map[string]string{"app": "web"}))
	op.apply(t, manifest("shop", "unrelated", `{podSelector: {matchLabels: {app: none}}, ingress: [{from: [{podSelector: {matchLabels: {app: other}}}]}]}`))
	op.resolved(t, op.apply(t, manifest("shop", "allow-web", fromApp)).GetRevision())
	before := sys.snapshot()
	checkResolved(t, before)

	pod, err := op.UpdatePodLabels(soon(t), &tenancyv1.UpdatePodLabelsRequest{Namespace: "shop", Name: "client-7", Set: map[string]string{"app": "client-no-more"}})
	if err != nil {
		t.Fatal(err)
	}
	op.resolved(t, pod.GetPod().GetRevision())
	after := sys.snapshot()
	checkResolved(t, after)
	if changed := kindsOf(differing(resolvedKeys(before), resolvedKeys(after))); len(changed) != 1 || changed["addressgroup"] != 1 {
		t.Errorf("a pod that left one group changed %v, want one shard", changed)
	}
	// What the agent reports is what the runtime was told long ago.
	if again := node.registerPod(t, podOf("shop", "client-7", "10.1.0.8", map[string]string{"app": "client"})); again.GetLabels()["app"] != "client-no-more" {
		t.Errorf("a report undid labels that were updated: %v", again)
	}
	// A pod that has completed leaves everything; its address may be another's.
	completed, err := op.SetPodConditions(soon(t), &tenancyv1.SetPodConditionsRequest{Namespace: "shop", Name: "client-8", Conditions: &tenancyv1.PodConditions{Completed: proto.Bool(true)}})
	if err != nil {
		t.Fatal(err)
	}
	op.resolved(t, completed.GetPod().GetRevision())
	last := sys.snapshot()
	if changed := kindsOf(differing(resolvedKeys(after), resolvedKeys(last))); changed["addressgroup"] != 1 || changed["podpolicies"] != 1 || len(changed) != 2 {
		t.Errorf("a pod that completed changed %v", changed)
	}
	if r := checkResolved(t, last); len(r.pods["n1/shop/web"].Pod.Policies) != 1 || r.pods["n1/shop/web"].Sandbox != web.GetSandboxId() {
		t.Errorf("the target is %+v", r.pods["n1/shop/web"])
	}
}

// TestACompletedPodSaysNothingOfWhoHasItsAddressNow keeps the entry of a completed pod
// beside that of a pod with its address, which has what its own labels give it.
func TestACompletedPodSaysNothingOfWhoHasItsAddressNow(t *testing.T) {
	sys := start(t, vnid.Default())
	op, node := sys.operator(), sys.node("n1")
	const shared = "10.1.0.2"
	node.registerPod(t, podOf("shop", "web", "10.1.0.1", map[string]string{"app": "web"}))
	node.registerPod(t, podOf("shop", "job", shared, map[string]string{"app": "client"}))
	op.resolved(t, op.apply(t, manifest("shop", "allow-web", fromApp)).GetRevision())
	want := func(what, entry string, revision uint64, peers ...netip.Addr) {
		t.Helper()
		op.resolved(t, revision)
		r := checkResolved(t, sys.snapshot())
		for id, members := range r.groups {
			var got []netip.Addr
			for _, m := range members {
				got = append(got, m.Addr)
			}
			if !slices.Equal(got, peers) {
				t.Errorf("%s: group %s has %v, want %v", what, id, got, peers)
			}
		}
		if len(r.groups) != 1 {
			t.Errorf("%s: there are %d groups, want 1", what, len(r.groups))
		}
		answer, err := op.ExplainConnection(soon(t), &tenancyv1.ExplainConnectionRequest{
			From: &tenancyv1.ConnectionEnd{Ip: shared}, To: &tenancyv1.ConnectionEnd{Namespace: "shop", Name: "web"}, Port: 80})
		if err != nil {
			t.Fatal(err)
		}
		if from := answer.GetSides()[0].GetPod().GetName(); from != entry || answer.GetAllowed() != (len(peers) > 0) {
			t.Errorf("%s: %s is explained as pod %q, allowed: %t", what, shared, from, answer.GetAllowed())
		}
	}
	complete := func(name string) uint64 {
		t.Helper()
		answer, err := op.SetPodConditions(soon(t), &tenancyv1.SetPodConditionsRequest{Namespace: "shop", Name: name, Conditions: &tenancyv1.PodConditions{Completed: proto.Bool(true)}})
		if err != nil {
			t.Fatal(err)
		}
		return answer.GetPod().GetRevision()
	}
	address := netip.MustParseAddr(shared)
	complete("job")
	next := node.registerPod(t, podOf("shop", "next", shared, map[string]string{"app": "other"}))
	want("another label", "next", next.GetRevision())
	labelled, err := op.UpdatePodLabels(soon(t), &tenancyv1.UpdatePodLabelsRequest{Namespace: "shop", Name: "next", Set: map[string]string{"app": "client"}})
	if err != nil {
		t.Fatal(err)
	}
	want("the label that the completed one has", "next", labelled.GetPod().GetRevision(), address)
	// The news that a pod has completed may come after its address was given away.
	node.registerPod(t, podOf("shop", "late", shared, map[string]string{"app": "client"}))
	want("a second one that completed before it was said", "next", complete("late"), address)
	list, err := op.ListPods(soon(t), &tenancyv1.ListPodsRequest{Namespace: "shop"})
	if err != nil || len(list.GetPods()) != 4 {
		t.Errorf("the registry has %d pods, want 4 with the completed ones (%v)", len(list.GetPods()), err)
	}
}

func TestAReplicaThatTakesOverWritesNothingWhenNothingChanged(t *testing.T) {
	sys := newSystem(t)
	ctx, cancel := context.WithCancel(context.Background())
	stop := sys.runReplica(ctx)
	op, node := sys.operator(), sys.node("n1")
	ns, err := op.CreateNetNamespace(soon(t), &tenancyv1.CreateNetNamespaceRequest{Name: "shop", Labels: map[string]string{"team": "a"}})
	if err != nil {
		t.Fatal(err)
	}
	for i := range 20 {
		node.registerPod(t, podOf("shop", fmt.Sprintf("p%d", i), fmt.Sprintf("10.1.0.%d", i+1), map[string]string{"app": []string{"web", "client"}[i%2]}))
	}
	op.apply(t, manifest("shop", "allow-web", fromApp))
	last := op.apply(t, manifest("shop", "by-team", `{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}]}]}`))
	op.resolved(t, last.GetRevision())
	before := sys.snapshot()
	checkResolved(t, before)
	cancel()
	stop()

	sys.address = sys.startReplica(vnid.Default(), prometheus.NewRegistry())
	op = sys.operator()
	// Something that the second replica resolves proves that it compared.
	labels, err := op.UpdateNetNamespaceLabels(soon(t), &tenancyv1.UpdateNetNamespaceLabelsRequest{Name: "shop", Set: map[string]string{"nobody": "asks"}})
	if err != nil || labels.GetNetNamespace().GetRevision() <= ns.GetNetNamespace().GetRevision() {
		t.Fatalf("got %v, %v", labels, err)
	}
	op.resolved(t, labels.GetNetNamespace().GetRevision())
	after := sys.snapshot()
	if changed := differing(resolvedKeys(before), resolvedKeys(after)); len(changed) != 0 {
		t.Errorf("a replica that took over wrote %v", changed)
	}
	labels, err = op.UpdateNetNamespaceLabels(soon(t), &tenancyv1.UpdateNetNamespaceLabelsRequest{Name: "shop", Remove: []string{"team"}})
	if err != nil {
		t.Fatal(err)
	}
	op.resolved(t, labels.GetNetNamespace().GetRevision())
	last2 := sys.snapshot()
	checkResolved(t, last2)
	if changed := kindsOf(differing(resolvedKeys(after), resolvedKeys(last2))); changed["addressgroup"] != 1 || len(changed) != 1 {
		t.Errorf("a namespace's label changed %v", changed)
	}
}

func TestAConnectionIsExplainedByRules(t *testing.T) {
	sys := start(t, vnid.Default())
	op, node := sys.operator(), sys.node("n1")
	node.registerPod(t, podOf("shop", "web", "10.1.0.1", map[string]string{"app": "web"}))
	node.registerPod(t, podOf("shop", "client", "10.1.0.2", map[string]string{"app": "client"}))
	op.resolved(t, op.apply(t, manifest("shop", "allow-web", fromApp)).GetRevision())
	ask := func(from, to *tenancyv1.ConnectionEnd, port uint32) *tenancyv1.ExplainConnectionResponse {
		t.Helper()
		answer, err := op.ExplainConnection(soon(t), &tenancyv1.ExplainConnectionRequest{From: from, To: to, Port: port})
		if err != nil {
			t.Fatal(err)
		}
		return answer
	}
	client, web := &tenancyv1.ConnectionEnd{Namespace: "shop", Name: "client"}, &tenancyv1.ConnectionEnd{Ip: "10.1.0.1"}
	answer := ask(client, web, 80)
	ingress := answer.GetSides()[1]
	if !answer.GetAllowed() || answer.GetEnforced() || ingress.GetPolicy().GetName() != "allow-web" || ingress.Rule == nil || len(ingress.GetMatches()) != 1 {
		t.Errorf("got %v", answer)
	}
	if egress := answer.GetSides()[0]; !egress.GetAllowed() || egress.GetPolicy() != nil || len(egress.GetPolicies()) != 0 {
		t.Errorf("got %v", egress)
	}
	answer = ask(client, web, 81)
	if ingress := answer.GetSides()[1]; answer.GetAllowed() || ingress.Rule != nil || ingress.GetPolicy().GetName() != "allow-web" || len(ingress.GetPolicies()) != 1 {
		t.Errorf("got %v", answer)
	}
	if answer := ask(&tenancyv1.ConnectionEnd{Ip: "192.0.2.1"}, web, 80); answer.GetAllowed() || answer.GetSides()[0].GetPod() != nil {
		t.Errorf("got %v", answer)
	}
	_, err := op.ExplainConnection(soon(t), &tenancyv1.ExplainConnectionRequest{From: &tenancyv1.ConnectionEnd{Namespace: "shop", Name: "nobody"}, To: web, Port: 1})
	if status.Code(err) != codes.NotFound {
		t.Errorf("got %v", err)
	}
	if _, err := op.SetIsolation(soon(t), &tenancyv1.SetIsolationRequest{Mode: tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY}); err != nil {
		t.Fatal(err)
	}
	if !ask(client, web, 80).GetEnforced() {
		t.Error("policies are not enforced in mode networkpolicy")
	}
}

func TestAWaitForWhatNeverComesEnds(t *testing.T) {
	sys := start(t, vnid.Default())
	ctx, cancel := context.WithTimeout(soon(t), 200e6)
	defer cancel()
	_, err := sys.operator().WaitResolved(ctx, &tenancyv1.WaitResolvedRequest{Revision: 1 << 40})
	if status.Code(err) != codes.DeadlineExceeded && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}
