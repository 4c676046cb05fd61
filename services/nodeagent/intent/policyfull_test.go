package intent

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	"github.com/damask-sdn/damask/services/nodeagent/policyflow"
)

// lets is a policy that lets in one address outside, each policy another.
func lets(i int) policy.Policy {
	r := policy.Rule{Direction: policy.Ingress, Action: policy.Allow, AnyPort: true,
		Peers: []policy.Peer{{Block: policy.Block{CIDR: netip.PrefixFrom(peerOf(i), 32)}}}}
	return policy.Policy{Key: keyOf(i), Tier: policy.Namespace, Ingress: true, Rules: []policy.Rule{r}}
}

func peerOf(i int) netip.Addr { return netip.AddrFrom4([4]byte{203, 0, byte(i >> 8), byte(i)}) }

// named are the policies whose status says why they are not in force, by number, and what
// it says of the first.
func (n *policyNode) named() (names []string, text string) {
	for _, s := range n.prog.Statuses() {
		if s.Kind == KindPolicy && s.Err != nil {
			if names = append(names, s.Name); text == "" {
				text = s.Err.Error()
			}
		}
	}
	return names, text
}

// TestRulesThatNoFlowHoldsLetNothingPass has more policies apply to a pod than a flow has
// room for: by so many that no message to the switch would have, either.
func TestRulesThatNoFlowHoldsLetNothingPass(t *testing.T) {
	const more = 100
	const count = policyflow.MaxClauses + more
	var keys []policy.Key
	for i := range count {
		keys = append(keys, keyOf(i))
	}
	n := newPolicyNode(t, 1, keys...)
	for i := range count {
		p := lets(i)
		_, err := n.state.SetPolicy(policywire.Policy(&p))
		n.must(err)
	}
	n.reconcile() // An agent that starts is not kept from it.
	out, text := n.named()
	if len(out) != more || !strings.Contains(text, "10.128.0.2") || !strings.Contains(text, "4100 rules") || !strings.Contains(text, "4000") {
		t.Fatalf("%d are named: %s", len(out), text)
	}
	opens := func(i int) bool {
		answer := n.sw.Appctl(t, "ofproto/trace", "--ct-next", "trk,new", "--ct-next", "trk,new", "br0", "in_port=2,tcp,nw_src="+peerOf(i).String()+",nw_dst=10.128.0.2,tp_dst=80")
		return strings.Contains(answer, "output port is 3")
	}
	for i := range count {
		p := lets(i)
		left := slices.Contains(out, policywire.PolicyName(p.Key))
		if i%250 == 0 && opens(i) == left {
			t.Errorf("policy %d lets its peer in: %t", i, !left)
		}
	}
	if opens(count) {
		t.Error("a peer of nobody gets in")
	}
	// What changes besides comes into force.
	p := lets(0)
	p.Rules[0].Peers[0].Block.CIDR = netip.PrefixFrom(peerOf(count+7), 32)
	n.set(p)
	if !slices.Contains(out, policywire.PolicyName(p.Key)) && !opens(count+7) {
		t.Error("a change of another policy is not in the switch")
	}
	// Room is made, and both are there.
	for i := range more {
		n.prog.Queue(n.state.DeletePolicy(policywire.PolicyName(keyOf(i + 1))))
	}
	n.must(n.prog.Program(n.Context(), n.prog.queued))
	if names, text := n.named(); len(names) > 0 {
		t.Errorf("with room for all, %q are named: %s", names, text)
	}
	for i, checked := more+1, 0; i < count && checked < 5; i++ {
		if slices.Contains(out, policywire.PolicyName(keyOf(i))) {
			if checked++; !opens(i) {
				t.Errorf("policy %d is not in force", i)
			}
		}
	}
}
