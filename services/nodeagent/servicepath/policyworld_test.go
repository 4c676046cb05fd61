package servicepath

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// world is a cluster with its policies, as tenancy would tell nodes of them.
type world struct {
	nodes    []*node
	pods     []*pod
	policies map[policy.Key]*policy.Policy
	groups   map[policy.GroupID][]*pod
	blocks   map[policy.GroupID][]netip.Addr // Members that are no pods.
	lists    map[*pod][]policy.Key
	ports    map[*pod][]policy.NamedPort
	revision uint64
}

func newWorld(nodes []*node, pods ...*pod) *world {
	return &world{
		nodes: nodes, pods: pods, policies: map[policy.Key]*policy.Policy{}, groups: map[policy.GroupID][]*pod{},
		blocks: map[policy.GroupID][]netip.Addr{}, lists: map[*pod][]policy.Key{}, ports: map[*pod][]policy.NamedPort{},
	}
}

// put has a policy apply to pods.
func (w *world) put(p policy.Policy, pods ...*pod) {
	w.policies[p.Key] = &p
	for target, keys := range w.lists {
		w.lists[target] = slices.DeleteFunc(keys, func(k policy.Key) bool { return k == p.Key })
	}
	for _, target := range pods {
		w.lists[target] = append(w.lists[target], p.Key)
	}
}

// remove forgets a policy.
func (w *world) remove(key policy.Key) {
	delete(w.policies, key)
	for target, keys := range w.lists {
		w.lists[target] = slices.DeleteFunc(keys, func(k policy.Key) bool { return k == key })
	}
}

// tell brings all nodes to the present state, groups first, in one change each.
func (w *world) tell(t testing.TB) {
	t.Helper()
	w.revision++
	for _, n := range w.nodes {
		w.tellTo(t, n, n.program.Program)
		// The switch looks at what it has cached once flows have changed, a little later.
		n.sw.Settle(t)
	}
}

// tellTo brings one node to it.
func (w *world) tellTo(t testing.TB, n *node, program func(context.Context, intent.Change) error) {
	t.Helper()
	var all intent.Change
	take := func(c intent.Change, err error) {
		if err != nil {
			t.Fatal(err)
		}
		all.Owners = append(all.Owners, c.Owners...)
		all.Objects = append(all.Objects, c.Objects...)
		all.Policies = true
	}
	for id := range w.groups {
		m := &tenancyv1.AddressGroupShard{Group: string(id), Shards: 1, Revision: w.revision}
		for _, member := range w.members(id) {
			m.Members = append(m.Members, &tenancyv1.AddressGroupMember{Address: member.Addr.AsSlice(), Port: uint32(member.Port)})
		}
		take(n.state.SetAddressGroupShard(m))
	}
	for _, p := range w.policies {
		m := policywire.Policy(p)
		m.Revision = w.revision
		take(n.state.SetPolicy(m))
	}
	for _, p := range w.pods {
		if p.node == n {
			m := policywire.PodPolicies(&policywire.Placed{Node: n.name, Sandbox: p.name, Pod: w.pod(p)})
			m.Revision = w.revision
			take(n.state.SetPodPolicies(m))
		}
	}
	for name := range n.told {
		if key, _ := policywire.ParsePolicyName(name); w.policies[key] == nil {
			take(n.state.DeletePolicy(name), nil)
		}
	}
	n.told = map[string]bool{}
	for key := range w.policies {
		n.told[policywire.PolicyName(key)] = true
	}
	if err := program(patience(t), all); err != nil {
		t.Fatal(err)
	}
}

// pod is a pod with its policies.
func (w *world) pod(p *pod) policy.Pod {
	keys := slices.SortedFunc(slices.Values(w.lists[p]), policy.Key.Compare)
	return policy.Pod{Namespace: p.namespace, Name: p.name, Addresses: []netip.Addr{p.ip}, Ports: w.ports[p], Policies: keys}
}

func (w *world) members(id policy.GroupID) []policy.Member {
	var all []policy.Member
	for _, p := range w.groups[id] {
		all = append(all, policy.Member{Addr: p.ip})
	}
	for _, a := range w.blocks[id] {
		all = append(all, policy.Member{Addr: a})
	}
	slices.SortFunc(all, func(a, b policy.Member) int { return a.Addr.Compare(b.Addr) })
	return slices.Compact(all)
}

// allows says whether a connection may be, by both sides.
func (w *world) allows(from, to *pod, protocol policy.Protocol, port uint16) bool {
	return w.side(from, policy.Egress, to.ip, protocol, port) && w.side(to, policy.Ingress, from.ip, protocol, port)
}

// side says whether one side lets it pass.
func (w *world) side(p *pod, d policy.Direction, peer netip.Addr, protocol policy.Protocol, port uint16) bool {
	seen := w.pod(p)
	groups := policy.Groups{}
	for id := range w.groups {
		groups[id] = map[policy.Member]struct{}{}
		for _, m := range w.members(id) {
			groups[id][m] = struct{}{}
		}
	}
	var applied []*policy.Policy
	for _, key := range seen.Policies {
		applied = append(applied, w.policies[key])
	}
	return policy.Decide(policy.Traffic{Direction: d, Pod: &seen, Peer: peer, Protocol: protocol, Port: port}, applied, groups).Allowed
}

// isolate is a NetworkPolicy with these rules, that isolates in their directions and in
// those named.
func isolate(name string, directions []policy.Direction, rules ...policy.Rule) policy.Policy {
	p := policy.Policy{Key: policy.Key{Kind: "NetworkPolicy", Namespace: "shop", Name: name}, Tier: policy.Namespace, Rules: rules}
	for _, d := range directions {
		p.Ingress, p.Egress = p.Ingress || d == policy.Ingress, p.Egress || d == policy.Egress
	}
	for i := range p.Rules {
		p.Rules[i].Action = policy.Allow
		p.Ingress, p.Egress = p.Ingress || p.Rules[i].Direction == policy.Ingress, p.Egress || p.Rules[i].Direction == policy.Egress
	}
	return p
}

// block is a peer of one address, or of more.
func block(text string) []policy.Peer {
	return []policy.Peer{{Block: policy.Block{CIDR: netip.MustParsePrefix(text)}}}
}

// only is a peer that is one pod.
func only(p *pod) []policy.Peer { return block(fmt.Sprintf("%s/32", p.ip)) }

// port is one port of both protocols.
func port(n uint16) []policy.PortRange {
	return []policy.PortRange{{Protocol: policy.TCP, First: n, Last: n}, {Protocol: policy.UDP, First: n, Last: n}}
}

// setMode has all nodes change their isolation mode.
func (w *world) setMode(t testing.TB, mode tenancyv1.IsolationMode) {
	t.Helper()
	w.revision++
	for _, n := range w.nodes {
		change, err := n.state.SetIsolation(&tenancyv1.Isolation{Mode: mode, Revision: w.revision})
		if err == nil {
			err = n.program.Program(patience(t), change)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}
