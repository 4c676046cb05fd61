package policywire

import (
	"fmt"
	"net/netip"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/damask-sdn/damask/internal/policy"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

var (
	addresses = rapid.Custom(func(t *rapid.T) netip.Addr {
		if rapid.Bool().Draw(t, "IPv6") {
			return netip.AddrFrom16([16]byte(append([]byte{0xfd}, rapid.SliceOfN(rapid.Byte(), 15, 15).Draw(t, "bytes")...)))
		}
		return netip.AddrFrom4([4]byte(rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "bytes")))
	})
	prefixes = rapid.Custom(func(t *rapid.T) netip.Prefix {
		a := addresses.Draw(t, "address")
		return netip.PrefixFrom(a, rapid.IntRange(0, a.BitLen()).Draw(t, "bits")).Masked()
	})
	blocks = rapid.Custom(func(t *rapid.T) policy.Block {
		return policy.Block{CIDR: prefixes.Draw(t, "cidr"), Except: some(t, prefixes, "except")}
	})
	protocols = rapid.SampledFrom([]policy.Protocol{policy.TCP, policy.UDP, policy.SCTP})
	names     = rapid.StringMatching(`[a-z][a-z0-9-]{0,8}`)
	groupIDs  = rapid.Map(names, func(s string) policy.GroupID { return policy.GroupID(s) })
	keys      = rapid.Custom(func(t *rapid.T) policy.Key {
		k := policy.Key{Kind: rapid.SampledFrom([]string{"NetworkPolicy", "AdminNetworkPolicy"}).Draw(t, "kind"), Name: names.Draw(t, "name") + ".v1"}
		if k.Kind == "NetworkPolicy" {
			k.Namespace = names.Draw(t, "namespace")
		}
		return k
	})
	ranges = rapid.Custom(func(t *rapid.T) policy.PortRange {
		first := rapid.Uint16Min(1).Draw(t, "first")
		r := policy.PortRange{Protocol: protocols.Draw(t, "protocol"), First: first, Last: rapid.Uint16Min(first).Draw(t, "last")}
		if rapid.Bool().Draw(t, "all") {
			r.First, r.Last = 0, 0
		}
		return r
	})
	peers = rapid.Custom(func(t *rapid.T) policy.Peer {
		if rapid.Bool().Draw(t, "group") {
			return policy.Peer{Group: groupIDs.Draw(t, "id")}
		}
		return policy.Peer{Block: blocks.Draw(t, "block")}
	})
	named = rapid.Custom(func(t *rapid.T) policy.PortName {
		return policy.PortName{Protocol: protocols.Draw(t, "protocol"), Name: names.Draw(t, "name")}
	})
	endpoints = rapid.Custom(func(t *rapid.T) policy.Endpoints {
		e := policy.Endpoints{Group: groupIDs.Draw(t, "id"), Protocol: protocols.Draw(t, "protocol")}
		if rapid.Bool().Draw(t, "within") {
			e.Within = blocks.Draw(t, "block")
		}
		return e
	})
	rules = rapid.Custom(func(t *rapid.T) policy.Rule {
		r := policy.Rule{Direction: rapid.SampledFrom([]policy.Direction{policy.Ingress, policy.Egress}).Draw(t, "direction"),
			Action:  rapid.SampledFrom([]policy.Action{policy.Allow, policy.Deny, policy.Pass}).Draw(t, "action"),
			AnyPeer: rapid.Bool().Draw(t, "any peer"), AnyPort: rapid.Bool().Draw(t, "any port")}
		if !r.AnyPeer {
			r.Peers = some(t, peers, "peers")
		}
		if !r.AnyPort {
			r.Ports = some(t, ranges, "ports")
		}
		switch {
		case r.Direction == policy.Egress:
			r.Endpoints = some(t, endpoints, "endpoints")
		case !r.AnyPort:
			r.Named = some(t, named, "named")
		}
		return r
	})
)

// some draws a list that is nil when it is empty.
func some[T any](t *rapid.T, of *rapid.Generator[T], label string) []T {
	drawn := rapid.SliceOfN(of, 0, 3).Draw(t, label)
	if len(drawn) == 0 {
		return nil
	}
	return drawn
}

// carried is a message after its way through the store.
func carried[T proto.Message](t *rapid.T, m, into T) T {
	data, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if err := proto.Unmarshal(data, into); err != nil {
		t.Fatal(err)
	}
	return into
}

func TestPoliciesAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := policy.Policy{Key: keys.Draw(t, "key"), Tier: rapid.SampledFrom([]policy.Tier{policy.Admin, policy.Namespace, policy.Baseline}).Draw(t, "tier"),
			Rules: some(t, rules, "rules")}
		if p.Tier == policy.Namespace {
			p.Ingress, p.Egress = rapid.Bool().Draw(t, "ingress"), rapid.Bool().Draw(t, "egress")
		} else {
			p.Priority = rapid.Int32Range(0, 1000).Draw(t, "priority")
		}
		got, err := ReadPolicy(carried(t, Policy(&p), &tenancyv1.ResolvedPolicy{}))
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("wrote %+v\n read %+v, %v", p, got, err)
		}
		if key, err := ParsePolicyName(NameOfPolicy(Policy(&p))); err != nil || key != p.Key {
			t.Fatalf("wrote key %v, read %v, %v", p.Key, key, err)
		}
	})
}

func TestPodsPoliciesAreReadAsTheyWereWritten(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := Placed{Node: names.Draw(t, "node"), Sandbox: names.Draw(t, "sandbox"), Pod: policy.Pod{
			Namespace: names.Draw(t, "namespace"), Name: names.Draw(t, "name"),
			Addresses: some(t, addresses, "addresses"), Policies: some(t, keys, "policies"),
			Ports: some(t, rapid.Custom(func(t *rapid.T) policy.NamedPort {
				return policy.NamedPort{Name: names.Draw(t, "name"), Protocol: protocols.Draw(t, "protocol"), Port: rapid.Uint16().Draw(t, "port")}
			}), "ports"),
		}}
		got, err := ReadPodPolicies(carried(t, PodPolicies(&p), &tenancyv1.PodPolicies{}))
		if err != nil || !reflect.DeepEqual(got, p) {
			t.Fatalf("wrote %+v\n read %+v, %v", p, got, err)
		}
	})
}

func TestWhatIsNotUnderstoodIsRefusedWithEveryProblem(t *testing.T) {
	_, err := ReadPolicy(&tenancyv1.ResolvedPolicy{
		Key: &tenancyv1.PolicyKey{Kind: "NetworkPolicy"}, Tier: 9, IsolatesIngress: true,
		Rules: []*tenancyv1.PolicyRule{{
			Action: 7, AnyPeer: true, Peers: []*tenancyv1.PolicyPeer{{}},
			Ports:     []*tenancyv1.PolicyPortRange{{Protocol: 5, First: 70000}, {Protocol: 1, First: 9, Last: 8}},
			Endpoints: []*tenancyv1.PolicyEndpoints{{Protocol: 1, Within: &tenancyv1.AddressBlock{Cidr: "10.0.0.1/8"}}},
		}},
	})
	if err == nil {
		t.Fatal("it was read")
	}
	for _, want := range []string{"no name", "tier 9", "does not isolate", "direction 0", "action 7", "rule 0 means everything",
		"unknown kind", "protocol 5", "70000 is not a port", "ports 9 to 8", "no id", `"10.0.0.1/8" is not a prefix`} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
	_, err = ReadPodPolicies(&tenancyv1.PodPolicies{Node: "n", Ips: []string{"x"}, Ports: []*tenancyv1.ContainerPort{{}}, Policies: []*tenancyv1.PolicyKey{{}}})
	for _, want := range []string{"sandbox", `"x" is not an address`, "no name", "protocol 0", "no kind"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in: %v", want, err)
		}
	}
}

func member(i int) policy.Member {
	return policy.Member{Addr: netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})}
}

func TestShardsOfALargeGroupAreEvenAndSmall(t *testing.T) {
	for _, size := range []int{0, 1, 256, 257, 10_000, 100_000} {
		shards := Shards(size, 0)
		counts := make([]int, shards)
		for i := range size {
			counts[ShardOf(member(i), shards)]++
		}
		largest := slices.Max(counts)
		if limit := 2 * shardMost; largest > limit {
			t.Errorf("%d members in %d shards: the largest has %d, want at most %d", size, shards, largest, limit)
		}
		if shards > MaxShards || shards > 1 && size < shards*shardMost/2 {
			t.Errorf("%d members have %d shards", size, shards)
		}
		t.Logf("%6d members: %3d shards, the largest has %d", size, shards, largest)
	}
}

func TestTheNumberOfShardsDoesNotGoToAndFro(t *testing.T) {
	now, changes := Shards(0, 0), 0
	for round := range 2000 {
		for _, size := range []int{shardMost, shardMost + 1} {
			if next := Shards(size, now); next != now {
				now = next
				changes++
			}
		}
		if round == 0 && now != 2 {
			t.Fatalf("%d members have %d shards", shardMost+1, now)
		}
	}
	if changes != 1 {
		t.Errorf("a group that goes to and fro at its bound was divided %d times", changes)
	}
	if n := Shards(1, MaxShards); n != 1 {
		t.Errorf("a group that shrank to one member has %d shards", n)
	}
}

// TestAGroupIsKnownWhenItIsCompleteAndThenMissesNobody divides a group and puts
// it together as it grows and shrinks, its writes in the order of the API.
func TestAGroupIsKnownWhenItIsCompleteAndThenMissesNobody(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		g, seen := NewGathered(), map[policy.Member]bool{}
		stored, shards := map[string]bool{}, 0
		take := func(move Move, err error) {
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range move.Removed {
				if !seen[m] {
					t.Fatalf("%v was removed and never added", m)
				}
				delete(seen, m)
			}
			for _, m := range move.Added {
				if seen[m] {
					t.Fatalf("%v was added twice", m)
				}
				seen[m] = true
			}
		}
		always := map[policy.Member]bool{} // of both sizes
		for step := range rapid.IntRange(1, 6).Draw(t, "steps") {
			size := rapid.IntRange(0, 1500).Draw(t, "size")
			for m := range always {
				if int(m.Addr.As4()[2])<<8+int(m.Addr.As4()[3]) >= size {
					delete(always, m)
				}
			}
			was := shards
			shards = Shards(size, was)
			parts := make([][]policy.Member, shards)
			for i := range size {
				at := ShardOf(member(i), shards)
				parts[at] = append(parts[at], member(i))
			}
			order := make([]int, 0, shards)
			for i := was; i < shards; i++ {
				order = append(order, i)
			}
			for i := range min(was, shards) {
				order = append(order, i)
			}
			for n, i := range order {
				m := Shard("g", i, shards, parts[i])
				move, err := g.Set(carried(t, m, &tenancyv1.AddressGroupShard{}))
				take(move, err)
				stored[NameOfShard(m)] = true
				if known := step > 0 || n == len(order)-1; move.Known != known {
					t.Fatalf("after %d of %d first shards: known is %v", n+1, len(order), move.Known)
				}
				for m := range always {
					if !seen[m] {
						t.Fatalf("%v is missing while the number of shards goes from %d to %d", m, was, shards)
					}
				}
			}
			for i := shards; i < was; i++ {
				name := fmt.Sprintf("g/%d", i)
				move, err := g.Delete(name)
				take(move, err)
				delete(stored, name)
			}
			always = map[policy.Member]bool{}
			for i := range size {
				always[member(i)] = true
			}
			if len(seen) != size {
				t.Fatalf("%d members are seen, want %d", len(seen), size)
			}
		}
		for name := range stored {
			move, err := g.Delete(name)
			take(move, err)
			delete(stored, name)
			if move.Gone != (len(stored) == 0) {
				t.Fatalf("gone is %v with %d shards left", move.Gone, len(stored))
			}
		}
		if len(seen) != 0 {
			t.Fatalf("%d members are left of a group that is gone", len(seen))
		}
	})
}

// FuzzRead feeds messages of others: what is read is written again as it was.
func FuzzRead(f *testing.F) {
	p := policy.Policy{Key: policy.Key{Kind: "NetworkPolicy", Namespace: "shop", Name: "web"}, Tier: policy.Namespace, Ingress: true,
		Rules: []policy.Rule{{Direction: policy.Ingress, Action: policy.Allow, Peers: []policy.Peer{{Group: "ab12"}}, AnyPort: true}}}
	for _, m := range []proto.Message{Policy(&p), Shard("ab12", 0, 2, []policy.Member{member(1)}),
		PodPolicies(&Placed{Node: "n", Sandbox: "s", Pod: policy.Pod{Namespace: "a", Name: "b", Policies: []policy.Key{p.Key}}})} {
		data, err := proto.Marshal(m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		var resolved tenancyv1.ResolvedPolicy
		if proto.Unmarshal(data, &resolved) == nil {
			if p, err := ReadPolicy(&resolved); err == nil {
				if again, err := ReadPolicy(Policy(&p)); err != nil || !reflect.DeepEqual(again, p) {
					t.Errorf("read %+v, then %+v, %v", p, again, err)
				}
			}
		}
		var pod tenancyv1.PodPolicies
		if proto.Unmarshal(data, &pod) == nil {
			if p, err := ReadPodPolicies(&pod); err == nil {
				if again, err := ReadPodPolicies(PodPolicies(&p)); err != nil || !reflect.DeepEqual(again, p) {
					t.Errorf("read %+v, then %+v, %v", p, again, err)
				}
			}
		}
		var shard tenancyv1.AddressGroupShard
		if proto.Unmarshal(data, &shard) == nil {
			if move, err := NewGathered().Set(&shard); err == nil && shard.GetShards() == 1 && !move.Known {
				t.Errorf("a whole group is not known: %+v", move)
			}
		}
	})
}
