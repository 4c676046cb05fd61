package egress

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/damask-sdn/damask/internal/identity"
	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/names/zonetest"
)

func allow(name string) *egressv1.EgressRule {
	return &egressv1.EgressRule{Type: egressv1.RuleType_RULE_TYPE_ALLOW, DnsName: name}
}

func denyAll() *egressv1.EgressRule {
	return &egressv1.EgressRule{Type: egressv1.RuleType_RULE_TYPE_DENY, CidrSelector: "0.0.0.0/0"}
}

func (c client) put(t *testing.T, p *egressv1.EgressNetworkPolicy) *egressv1.EgressNetworkPolicy {
	t.Helper()
	answer, err := c.PutEgressNetworkPolicy(soon(t), &egressv1.PutEgressNetworkPolicyRequest{EgressNetworkPolicy: p})
	if err != nil {
		t.Fatal(err)
	}
	return answer.GetEgressNetworkPolicy()
}

func TestAWrongPolicyIsRefusedWithAllThatIsWrong(t *testing.T) {
	op := start(t, 1).operator()
	_, err := op.PutEgressNetworkPolicy(soon(t), &egressv1.PutEgressNetworkPolicyRequest{EgressNetworkPolicy: &egressv1.EgressNetworkPolicy{
		Namespace: "shop", Name: "-",
		Rules: []*egressv1.EgressRule{
			denyAll(),
			{CidrSelector: "0.0.0.0/0"},
			{Type: 7, CidrSelector: "192.0.2.1/24", DnsName: "x"},
			{Type: 1},
			{Type: 2, CidrSelector: "192.0.2.1"},
			allow("*.com"), allow("*"), allow("a..b"), allow("WWW.example.com"), allow("192.0.2.1"), allow("*.example.com"), allow("_x.example.com"),
			{Type: 1, CidrSelector: "192.0.2.0/24", Ports: []*egressv1.RulePort{
				{Port: 80}, {Port: 70000}, {Port: 80, EndPort: 79}, {EndPort: 80}, {Protocol: 9}, {Protocol: egressv1.Protocol_PROTOCOL_UDP},
			}},
			{Type: 2, DnsName: "*.example.com"}, {Type: 2, DnsName: "www.example.com"},
		},
	}})
	rule := func(i int, rest string) string { return fmt.Sprintf("egress_network_policy.rules[%d]%s", i, rest) }
	want := []string{
		"egress_network_policy.name", rule(1, ".type"), rule(2, ".type"), rule(2, ""), rule(3, ""), rule(4, ".cidr_selector"),
		rule(5, ".dns_name"), rule(6, ".dns_name"), rule(7, ".dns_name"), rule(8, ".dns_name"), rule(9, ".dns_name"),
		rule(12, ".ports[1].port"), rule(12, ".ports[2].end_port"), rule(12, ".ports[3].end_port"), rule(12, ".ports[4].protocol"), rule(13, ".dns_name"),
	}
	if got := fields(err); status.Code(err) != codes.InvalidArgument || !slices.Equal(got, want) {
		t.Errorf("violations of\n%v, want\n%v", got, want)
	}
}

func TestPoliciesAreKeptInOrderAndByRevision(t *testing.T) {
	sys := start(t, 2)
	op := sys.operator()
	first := op.put(t, &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "b", Order: 1, Rules: []*egressv1.EgressRule{denyAll()}})
	if again := op.put(t, first); !proto.Equal(first, again) || first.GetRevision() == 0 {
		t.Errorf("first %v, then %v", first, again)
	}
	changed := proto.CloneOf(first)
	changed.Order = 2
	changed = op.put(t, changed)
	if _, err := op.PutEgressNetworkPolicy(soon(t), &egressv1.PutEgressNetworkPolicyRequest{EgressNetworkPolicy: first}); rpcerr.Reason(err) != "STALE_REVISION" {
		t.Errorf("an old revision: %v", err)
	}
	if _, err := op.PutEgressNetworkPolicy(soon(t), &egressv1.PutEgressNetworkPolicyRequest{EgressNetworkPolicy: &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "c", Revision: 5}}); status.Code(err) != codes.NotFound {
		t.Errorf("a revision of nothing: %v", err)
	}
	big := &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "a"}
	for i := range 10_000 {
		big.Rules = append(big.Rules, &egressv1.EgressRule{Type: egressv1.RuleType_RULE_TYPE_DENY, CidrSelector: fmt.Sprintf("10.%d.%d.0/24", i/250, i%250)})
	}
	began := time.Now()
	op.put(t, big)
	t.Logf("a policy of 10,000 rules has %d bytes and was stored in %v", proto.Size(big), time.Since(began).Round(time.Millisecond))
	page, err := sys.as(identity.Node("n1")).ListEgressNetworkPolicies(soon(t), &egressv1.ListEgressNetworkPoliciesRequest{Namespaces: []string{"shop"}})
	if err != nil || len(page.GetEgressNetworkPolicies()) != 2 || !proto.Equal(page.GetEgressNetworkPolicies()[1], changed) {
		t.Errorf("list: %d, %v", len(page.GetEgressNetworkPolicies()), err)
	}
	for range 2 {
		if _, err := op.DeleteEgressNetworkPolicy(soon(t), &egressv1.DeleteEgressNetworkPolicyRequest{Namespace: "shop", Name: "a"}); err != nil {
			t.Error(err)
		}
	}
}

// resolves waits until nodes are told something of a name, by some replicas or by any.
func (s *system) resolves(name string, want string, replicas ...string) {
	s.t.Helper()
	node, ctx, got := s.as(identity.Node("n1"), replicas...), soon(s.t), "nothing"
	for {
		page, err := node.ListDNSNames(ctx, &egressv1.ListDNSNamesRequest{Names: []string{name}})
		if err != nil {
			s.t.Fatalf("%s is %s, want %s: %v", name, got, want, err)
		}
		got = "nothing"
		for _, n := range page.GetDnsNames() {
			got = strings.TrimSpace(fmt.Sprintf("%s %s %s", strings.TrimPrefix(n.GetState().String(), "NAME_STATE_"), strings.Join(n.GetAddresses(), " "), n.GetError()))
		}
		if got == want {
			return
		}
	}
}

// TestNamesOfPoliciesAreResolved lets two replicas resolve by a real server, and
// stops the one that does.
func TestNamesOfPoliciesAreResolved(t *testing.T) {
	zone := zonetest.Start(t)
	sys := newSystem(t)
	sys.dns = []string{zone.Address}
	stop := sys.startReplica()
	op := sys.operator()
	zone.Set("www.example.com", "www.example.com 1 A 192.0.2.1")
	zone.Many("many.example.com", 300, 500)
	zone.Set("a.b.example.org", "a.b.example.org 300 A 192.0.2.3")
	op.put(t, &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "out", Rules: []*egressv1.EgressRule{
		allow("www.example.com"), allow("many.example.com"), allow("late.example.com"), allow("*.example.org"), denyAll(),
	}})
	sys.resolves("www.example.com", "RESOLVED 192.0.2.1")
	sys.resolves("late.example.com", "UNRESOLVED  the name has no IPv4 address")
	zone.Set("late.example.com", "late.example.com 300 A 192.0.2.9") // it is tried again
	sys.resolves("late.example.com", "RESOLVED 192.0.2.9")
	sys.hasAddresses("many.example.com", 500)

	sys.resolves("*.example.org", "UNRESOLVED")
	node := sys.as(identity.Node("n1"))
	report, err := node.ReportNames(soon(t), &egressv1.ReportNamesRequest{Node: "n1", Names: []string{"a.b.example.org", "example.org", "www.example.com"}})
	if err != nil || report.GetAccepted() != 1 {
		t.Errorf("report: %v, %v", report, err)
	}
	sys.resolves("*.example.org", "RESOLVED 192.0.2.3")

	sys.startReplica()
	sys.replica = sys.replica[1:]
	stop()
	op = sys.operator()
	sys.resolves("www.example.com", "RESOLVED 192.0.2.1")
	op.put(t, &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "other", Rules: []*egressv1.EgressRule{allow("www.example.com")}})
	op.put(t, &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "out", Rules: []*egressv1.EgressRule{allow("many.example.com")}})
	sys.resolves("*.example.org", "nothing")
	sys.resolves("late.example.com", "nothing")
	sys.resolves("www.example.com", "RESOLVED 192.0.2.1") // the other one still has it
	if _, err := op.DeleteEgressNetworkPolicy(soon(t), &egressv1.DeleteEgressNetworkPolicyRequest{Namespace: "shop", Name: "other"}); err != nil {
		t.Fatal(err)
	}
	sys.resolves("www.example.com", "nothing")
	sys.hasAddresses("many.example.com", 500) // what is new in a policy stays when the old goes
}

// hasAddresses checks how many addresses nodes are told of a name.
func (s *system) hasAddresses(name string, count int) {
	s.t.Helper()
	page, err := s.as(identity.Node("n1")).ListDNSNames(soon(s.t), &egressv1.ListDNSNamesRequest{Names: []string{name}})
	if err != nil || len(page.GetDnsNames()) != 1 || len(page.GetDnsNames()[0].GetAddresses()) != count {
		s.t.Errorf("%s: %v, %v, want %d addresses", name, page, err, count)
	}
}

// TestNamesOutliveTheirServer loses the server.
func TestNamesOutliveTheirServer(t *testing.T) {
	sys := newSystem(t)
	zone := zonetest.Start(t)
	zone.Set("www.example.com", "www.example.com 0 A 192.0.2.1")
	sys.dns = []string{zone.Address}
	sys.startReplica()
	sys.operator().put(t, &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "out", Rules: []*egressv1.EgressRule{allow("www.example.com")}})
	sys.resolves("www.example.com", "RESOLVED 192.0.2.1")
	zone.Refuse("www.example.com", 2)
	sys.resolves("www.example.com", "STALE 192.0.2.1 ask "+zone.Address+": the server answers SERVFAIL")
	zone.Set("www.example.com", "www.example.com 300 A 192.0.2.2")
	sys.resolves("www.example.com", "RESOLVED 192.0.2.1 192.0.2.2") // pods may remember the first
	if n := zone.Count("www.example.com"); n > 12 {
		t.Errorf("a TTL of 0 led to %d questions", n)
	}
}

// TestAThousandNamesAreResolvedTogether prints how long many names take.
func TestAThousandNamesAreResolvedTogether(t *testing.T) {
	const count = 1000
	zone, sys := zonetest.Start(t), newSystem(t)
	sys.dns = []string{zone.Address}
	sys.startReplica()
	op := sys.operator()
	p := &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "out"}
	for i := range count {
		name := fmt.Sprintf("w%d.example.com", i)
		zone.Set(name, fmt.Sprintf("%s 300 A 198.51.%d.%d", name, i/250, i%250+1))
		p.Rules = append(p.Rules, allow(name))
	}
	began := time.Now()
	op.put(t, p)
	for ctx := soon(t); ; {
		page, err := op.ListDNSNames(ctx, &egressv1.ListDNSNamesRequest{PageSize: 5000})
		if err != nil {
			t.Fatal(err)
		}
		resolved := 0
		for _, n := range page.GetDnsNames() {
			if n.GetState() == egressv1.NameState_NAME_STATE_RESOLVED {
				resolved++
			}
		}
		if resolved == count {
			break
		}
	}
	t.Logf("%d names were resolved and told in %v", count, time.Since(began).Round(time.Millisecond))
}
