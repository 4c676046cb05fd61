package intent

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/damask-sdn/damask/internal/ovstest"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/nodeagent/flowsync"
	"github.com/damask-sdn/damask/services/nodeagent/pipeline"
)

// policyNode is a node in networkpolicy mode over a real switch, ready for policies. Each
// change leaves its stamp, as on datapath netdev.
type policyNode struct {
	testing.TB
	state *State
	prog  *Programmer
	flows *sender
	sw    *ovstest.Switch
	rev   uint64
}

// sender notes how many fragments the largest change had that was sent, whether they
// differed from what the switch has or not.
type sender struct {
	*flowsync.Syncer
	most int
}

func (s *sender) Apply(ctx context.Context, changes ...flowsync.Change) error {
	s.most = max(s.most, len(changes))
	return s.Syncer.Apply(ctx, changes...)
}

func newPolicyNode(t testing.TB, pods int, policies ...policy.Key) *policyNode {
	t.Helper()
	sw := ovstest.Start(t, ovstest.Options{Datapath: ovstest.Dummy})
	sw.AddBridge(t, "br0")
	n := &policyNode{TB: t, state: NewState("self", false), sw: sw, rev: 1}
	stamp := &flowsync.Stamp{Owner: pipeline.StampOwner, Flows: pipeline.Stamp, Number: pipeline.StampNumber}
	n.flows = &sender{Syncer: flowsync.New(flowsync.Config{Socket: sw.MgmtSocket("br0"), Stamp: stamp}, hclog.NewNullLogger())}
	n.prog = NewProgrammer(n.state, n.flows, hclog.NewNullLogger())
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() { _ = n.flows.Run(ctx) })
	t.Cleanup(func() { cancel(); running.Wait() })
	_, network := n.state.SetClusterNetwork(plan1())
	_, subnet := n.state.SetHostSubnet(hostSubnet("self", "192.0.2.1", "10.128.0.0/23", 2))
	_, mode := n.state.SetIsolation(&tenancyv1.Isolation{Mode: tenancyv1.IsolationMode_ISOLATION_MODE_NETWORKPOLICY, Revision: 3})
	n.must(network, subnet, mode)
	n.state.SetNetNamespace(namespace("n", 10, 4))
	for i := range pods {
		p := Pod{Namespace: "n", Name: fmt.Sprint("p", i), Sandbox: fmt.Sprint("s", i), Ifname: "eth0", IP: netip.AddrFrom4([4]byte{10, 128, byte(i >> 8), byte(i) + 2}), Port: uint32(i) + 3}
		n.state.AddPod(p)
		placed := policywire.Placed{Node: "self", Sandbox: p.Sandbox, Pod: policy.Pod{Namespace: "n", Name: p.Name, Addresses: []netip.Addr{p.IP}}}
		for j := i; j < len(policies); j += pods {
			placed.Pod.Policies = append(placed.Pod.Policies, policies[j])
		}
		slices.SortFunc(placed.Pod.Policies, policy.Key.Compare)
		m := policywire.PodPolicies(&placed)
		m.Revision = n.next()
		_, err := n.state.SetPodPolicies(m)
		n.must(err)
	}
	return n
}

func (n *policyNode) next() uint64 { n.rev++; return n.rev }

func (n *policyNode) must(errs ...error) {
	n.Helper()
	for _, err := range errs {
		if err != nil {
			n.Fatal(err)
		}
	}
}

// group fills a group, in as many shards as tenancy would make.
func (n *policyNode) group(id string, members []netip.Addr) {
	n.Helper()
	count := policywire.Shards(len(members), 0)
	shards := make([]*tenancyv1.AddressGroupShard, count)
	for i := range shards {
		shards[i] = &tenancyv1.AddressGroupShard{Group: id, Shard: uint32(i), Shards: uint32(count), Revision: n.next()}
	}
	slices.SortFunc(members, netip.Addr.Compare)
	for _, a := range members {
		s := shards[policywire.ShardOf(policy.Member{Addr: a}, count)]
		s.Members = append(s.Members, &tenancyv1.AddressGroupMember{Address: a.AsSlice()})
	}
	for _, s := range shards {
		change, err := n.state.SetAddressGroupShard(s)
		n.must(err)
		n.prog.Queue(change)
	}
}

// set sets a policy, and answers when the switch has it.
func (n *policyNode) set(p policy.Policy) {
	n.Helper()
	m := policywire.Policy(&p)
	m.Revision = n.next()
	change, err := n.state.SetPolicy(m)
	n.must(err, n.prog.Program(n.Context(), change))
	object := Object{KindPolicy, policywire.NameOfPolicy(m)}
	if done, _, _ := n.prog.progress.of(object); done != m.Revision {
		n.Fatalf("%s is at revision %d, want %d", object.Name, done, m.Revision)
	}
}

func (n *policyNode) reconcile() {
	n.Helper()
	ctx, cancel := context.WithTimeout(n.Context(), time.Minute)
	defer cancel()
	_, err := n.prog.Reconcile(ctx)
	n.must(err)
}

func peers(n int) []netip.Addr {
	all := make([]netip.Addr, n)
	for i := range all {
		all[i] = netip.AddrFrom4([4]byte{11, byte(i >> 16), byte(i >> 8), byte(i)})
	}
	return all
}

// ruleOf is a policy of one rule.
func ruleOf(i int, port uint16, except bool) policy.Policy {
	r := policy.Rule{Direction: policy.Ingress, Action: policy.Allow, Peers: []policy.Peer{{Group: policy.GroupID(fmt.Sprint("g", i%100))}},
		Ports: []policy.PortRange{{Protocol: policy.TCP, First: port, Last: port}}}
	if except {
		r.Peers = append(r.Peers, policy.Peer{Block: policy.Block{CIDR: netip.MustParsePrefix("10.0.0.0/8"),
			Except: []netip.Prefix{netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(port), byte(i), 0}), 24)}}})
	}
	return policy.Policy{Key: keyOf(i), Tier: policy.Namespace, Ingress: true, Rules: []policy.Rule{r}}
}

func keyOf(i int) policy.Key {
	return policy.Key{Kind: "NetworkPolicy", Namespace: "n", Name: fmt.Sprint(i)}
}

// thousandRules is a node with 1,000 rules for 100 pods over groups of 100.
func thousandRules(t testing.TB, except bool) *policyNode {
	t.Helper()
	var keys []policy.Key
	for i := range 1000 {
		keys = append(keys, keyOf(i))
	}
	n := newPolicyNode(t, 100, keys...)
	for g := range 100 {
		n.group(fmt.Sprint("g", g), peers(100 + 50*g)[50*g:])
	}
	for i := range 1000 {
		p := ruleOf(i, 80, except)
		_, err := n.state.SetPolicy(policywire.Policy(&p))
		n.must(err)
	}
	n.reconcile()
	return n
}

// changes times changes of single policies, sorted.
func (n *policyNode) changes(count int, except bool) []time.Duration {
	n.Helper()
	var took []time.Duration
	for i := range count {
		p := ruleOf(i*37%1000, uint16(81+i%7), except)
		start := time.Now()
		n.set(p)
		took = append(took, time.Since(start))
	}
	slices.Sort(took)
	return took
}

func TestOnePolicyOfAThousandChangesAlone(t *testing.T) {
	for _, except := range []bool{false, true} {
		n := thousandRules(t, except)
		before, deleted := n.flows.Counters()
		took := n.changes(100, except)
		written, gone := n.flows.Counters()
		t.Logf("except %t: %d flows; 100 changes wrote %d and deleted %d, of %d fragments at most; median %s, p99 %s", except, n.flows.Size(), written-before, gone-deleted, n.flows.most, took[50], took[98])
		// The rule's flows, its port, and the prefixes around what is left out. Each
		// exception is its own, so it has at most 16 prefixes, in two policies' clauses.
		if most := uint64(100 * 50); written-before > most {
			t.Errorf("except %t: 100 changes wrote %d flows, want %d at most", except, written-before, most)
		}
		// The first change too: everything has just been compared.
		if n.flows.most > 50 {
			t.Errorf("except %t: a change sent %d fragments, want 50 at most", except, n.flows.most)
		}
	}
}

// BenchmarkPolicyChange is a policy's change to its flows in the switch, on a node with
// 1,000 rules, beside ovs-ofctl with as few flows.
func BenchmarkPolicyChange(b *testing.B) {
	for _, except := range []bool{false, true} {
		b.Run(fmt.Sprintf("except=%t", except), func(b *testing.B) {
			n := thousandRules(b, except)
			took := n.changes(300, except)
			file := filepath.Join(b.TempDir(), "flows")
			var text strings.Builder
			for i := range 5 {
				fmt.Fprintf(&text, "table=200,priority=%d,ip actions=drop\n", i+1)
			}
			if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
				b.Fatal(err)
			}
			var theirs []time.Duration
			for range 50 {
				cmd := exec.CommandContext(b.Context(), "ovs-ofctl", "-O", "OpenFlow13", "--bundle", "add-flows", "br0", file)
				cmd.Env = n.sw.Env()
				start := time.Now()
				if out, err := cmd.CombinedOutput(); err != nil {
					b.Fatalf("%v: %s", err, out)
				}
				theirs = append(theirs, time.Since(start))
			}
			slices.Sort(theirs)
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(took[150].Microseconds())/1000, "p50-ms")
			b.ReportMetric(float64(took[296].Microseconds())/1000, "p99-ms")
			b.ReportMetric(float64(took[299].Microseconds())/1000, "max-ms")
			b.ReportMetric(50, "goal-ms")
			b.ReportMetric(float64(theirs[25].Microseconds())/1000, "ofctl-p50-ms")
			b.ReportMetric(float64(theirs[48].Microseconds())/1000, "ofctl-p99-ms")
		})
	}
}

func TestAPolicyWith100000PeersIsInForce(t *testing.T) {
	n := newPolicyNode(t, 1, keyOf(0))
	n.reconcile()
	base := n.flows.Size()
	heap := heapMB()
	start := time.Now()
	n.group("g0", peers(100_000))
	p := ruleOf(0, 80, false)
	n.set(p)
	whole := time.Since(start)
	// Each peer is a flow, besides what the pod and the policy have by themselves.
	if got := n.flows.Size() - base; got < 100_000 || got > 100_020 {
		t.Errorf("got %d flows more, want one for each of 100,000 peers", got)
	}
	start = time.Now()
	members := peers(100_001)
	shard := policywire.ShardOf(policy.Member{Addr: members[100_000]}, policywire.Shards(100_000, 0))
	m := &tenancyv1.AddressGroupShard{Group: "g0", Shard: uint32(shard), Shards: uint32(policywire.Shards(100_000, 0)), Revision: n.next()}
	for _, a := range members {
		if policywire.ShardOf(policy.Member{Addr: a}, int(m.GetShards())) == shard {
			m.Members = append(m.Members, &tenancyv1.AddressGroupMember{Address: a.AsSlice()})
		}
	}
	slices.SortFunc(m.Members, func(a, b *tenancyv1.AddressGroupMember) int { return slices.Compare(a.GetAddress(), b.GetAddress()) })
	change, err := n.state.SetAddressGroupShard(m)
	n.must(err, n.prog.Program(n.Context(), change))
	one := time.Since(start)
	if got := n.flows.Size() - base; got < 100_001 || got > 100_021 {
		t.Errorf("got %d flows more, want one for each of 100,001 peers", got)
	}
	t.Logf("100,000 peers are in force after %s, with %.0f MB of memory more; one more after %s", whole, heapMB()-heap, one)
	if whole < 20*one {
		t.Errorf("one peer takes %s, 100,000 take %s: want 1:20 at least", one, whole)
	}
}

// heapMB is what is in use after a collection.
func heapMB() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc) / 1e6
}
