package egresspath

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// The modes in which namespaces have egress IPs.
const (
	multitenant   = tenancyv1.IsolationMode_ISOLATION_MODE_MULTITENANT
	networkPolicy = tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY
	combined      = tenancyv1.IsolationMode_ISOLATION_MODE_COMBINED
)

// policiesDecide says whether pods need policies in the node's mode.
func (n *node) policiesDecide() bool {
	return n.mode != multitenant
}

// isolate has a NetworkPolicy apply to a pod that lets nobody in, if policies decide.
func (n *node) isolate(t *testing.T, p *pod) {
	t.Helper()
	if !n.policiesDecide() {
		return
	}
	closed := policy.Policy{Key: policy.Key{Kind: "NetworkPolicy", Namespace: p.port.Namespace, Name: "closed"}, Tier: policy.Namespace, Ingress: true}
	told := policywire.Policy(&closed)
	told.Revision = 1
	change, err := n.state.SetPolicy(told)
	if err != nil {
		t.Fatal(err)
	}
	placed := policywire.PodPolicies(&policywire.Placed{Node: nodeName(n.index), Sandbox: p.port.Sandbox, Pod: policy.Pod{
		Namespace: p.port.Namespace, Name: p.port.Name, Addresses: []netip.Addr{p.ip}, Policies: []policy.Key{closed.Key},
	}})
	placed.Revision = 1
	applied, err := n.state.SetPodPolicies(placed)
	if err != nil {
		t.Fatal(err)
	}
	change.Owners, change.Objects = slices.Concat(change.Owners, applied.Owners), slices.Concat(change.Objects, applied.Objects)
	if change.Policies = true; n.program.Program(patience(t), change) != nil {
		t.Fatal("the switch does not take the policy")
	}
}

// wantIsolated wants that nobody gets into a pod where policies decide, also of its own
// namespace; and else that he does.
func (n *node) wantIsolated(t *testing.T, from, to *pod) {
	t.Helper()
	limit := answerLimit
	if n.policiesDecide() {
		limit = silence
	}
	conn, err := from.dial(t, "tcp4", to.ip.String()+":8080", limit)
	if err == nil {
		_ = conn.Close()
	}
	if (err != nil) != n.policiesDecide() {
		t.Errorf("%s connects to %s: %v, and its policy lets in nobody: %t", from.ns.Name(), to.ns.Name(), err, n.policiesDecide())
	}
}
