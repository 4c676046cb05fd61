package kube

import (
	"encoding/json"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/damask-sdn/damask/internal/kube/networkv1"
	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
	"github.com/damask-sdn/damask/services/egress/spec"
)

func TestAHostSubnetSaysWhatItsNodeMayHost(t *testing.T) {
	capacity := proto.Uint32(3)
	cases := []struct {
		name   string
		object networkv1.HostSubnet
		stored *egressv1.HostSubnetEgress
		want   *egressv1.HostSubnetEgress
	}{
		{
			"addresses are a wish", networkv1.HostSubnet{EgressIPs: []networkv1.EgressIP{"192.0.2.7"}}, nil,
			&egressv1.HostSubnetEgress{Node: "n1", EgressIps: []string{"192.0.2.7"}},
		},
		{
			"beside ranges they are a result",
			networkv1.HostSubnet{EgressIPs: []networkv1.EgressIP{"192.0.2.7"}, EgressCIDRs: []networkv1.EgressCIDR{"192.0.2.0/26"}}, nil,
			&egressv1.HostSubnetEgress{Node: "n1", EgressCidrs: []string{"192.0.2.0/26"}},
		},
		{
			"what it cannot say stays", networkv1.HostSubnet{},
			&egressv1.HostSubnetEgress{Node: "n1", EgressIps: []string{"192.0.2.7"}, Capacity: capacity, Drained: true, Revision: 4},
			&egressv1.HostSubnetEgress{Node: "n1", Capacity: capacity, Drained: true, Revision: 4},
		},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			c.object.Name = "n1"
			before := proto.CloneOf(c.stored)
			if got := offerOf(&c.object, c.stored); !proto.Equal(got, c.want) {
				t.Errorf("%v, want %v", got, c.want)
			}
			if c.stored != nil && !proto.Equal(before, c.stored) {
				t.Errorf("what is stored became %v", c.stored)
			}
		})
	}
}

func TestANetNamespaceSaysWhatItsNamespaceWants(t *testing.T) {
	n := &networkv1.NetNamespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}, EgressIPs: []networkv1.EgressIP{"192.0.2.8", "192.0.2.7"}}
	if got, want := wishOf(n, nil), (&egressv1.NetNamespaceEgress{Namespace: "shop", EgressIps: []string{"192.0.2.8", "192.0.2.7"}}); !proto.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
	pods := []*egressv1.PodEgress{{Name: "web", PodSelector: map[string]string{"app": "web"}, EgressIps: []string{"192.0.2.9"}}}
	stored := &egressv1.NetNamespaceEgress{Namespace: "shop", EgressIps: []string{"192.0.2.1"}, Pods: pods, Revision: 9}
	want := &egressv1.NetNamespaceEgress{Namespace: "shop", EgressIps: []string{"192.0.2.8", "192.0.2.7"}, Pods: pods, Revision: 9}
	if got := wishOf(n, stored); !proto.Equal(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// policyJSON is an EgressNetworkPolicy as people write it.
const policyJSON = `{"metadata": {"namespace": "shop", "name": "default"}, "spec": {"order": 7, "egress": [
	{"type": "Allow", "to": {"dnsName": "www.example.com"}},
	{"type": "Allow", "to": {"cidrSelector": "192.0.2.0/24"}, "ports": [{"port": 80}, {"protocol": "UDP", "port": 5000, "endPort": 5010}, {"protocol": "SCTP"}]},
	{"type": "Deny", "to": {"cidrSelector": "0.0.0.0/32"}}]}}`

func readPolicy(t testing.TB, text string) *networkv1.EgressNetworkPolicy {
	t.Helper()
	p := &networkv1.EgressNetworkPolicy{}
	if err := json.Unmarshal([]byte(text), p); err != nil {
		t.Fatal(err)
	}
	return p
}

func TestAPolicyIsTakenOverWithAllThatItSays(t *testing.T) {
	var v rpcerr.Violations
	got := policyOf(readPolicy(t, policyJSON), &v)
	want := &egressv1.EgressNetworkPolicy{Namespace: "shop", Name: "default", Order: 7, Rules: []*egressv1.EgressRule{
		{Type: egressv1.RuleType_RULE_TYPE_ALLOW, DnsName: "www.example.com"},
		{Type: egressv1.RuleType_RULE_TYPE_ALLOW, CidrSelector: "192.0.2.0/24", Ports: []*egressv1.RulePort{
			{Protocol: egressv1.Protocol_PROTOCOL_TCP, Port: 80}, {Protocol: egressv1.Protocol_PROTOCOL_UDP, Port: 5000, EndPort: 5010},
			{Protocol: egressv1.Protocol_PROTOCOL_SCTP},
		}},
		{Type: egressv1.RuleType_RULE_TYPE_DENY, CidrSelector: "0.0.0.0/0"}, // 0.0.0.0/32 always meant that
	}}
	if !v.Empty() || !proto.Equal(got, want) {
		t.Errorf("%v\nwant\n%v\nviolations: %s", got, want, complaints(&v))
	}
	if spec.CheckPolicy(got, &v); !v.Empty() {
		t.Error(complaints(&v))
	}
}

func TestWhatIsWrongIsSaidByTheNamesThatPeopleKnow(t *testing.T) {
	p := readPolicy(t, `{"metadata": {"namespace": "shop", "name": "default"}, "spec": {"order": -1, "egress": [
		{"type": "Refuse", "to": {"dnsName": "a..b"}},
		{"type": "Deny", "to": {"cidrSelector": "192.0.2.1/24"}, "ports": [{"protocol": "ICMP", "port": -1}, {"port": 80, "endPort": 0}, {"port": 80, "endPort": 79}]},
		{"to": {}}]}}`)
	var unknown, wrong rpcerr.Violations
	spec.CheckPolicy(policyOf(p, &unknown), &wrong)
	got := complaints(&unknown, &wrong)
	for _, part := range []string{
		"spec.order: -1", `spec.egress[0].type: "Refuse"`, "spec.egress[0].to.dnsName: ", "spec.egress[1].to.cidrSelector: ", `spec.egress[1].ports[0].protocol: "ICMP"`,
		"spec.egress[1].ports[0].port: -1", "spec.egress[1].ports[1].endPort: 0", "spec.egress[1].ports[2].endPort: 79", "spec.egress[2].type: is required",
		"spec.egress[2]: to.cidrSelector or to.dnsName is required",
	} {
		if !strings.Contains(got, part) {
			t.Errorf("%q is missing in %s", part, got)
		}
	}
	var v rpcerr.Violations
	spec.CheckHostSubnet(offerOf(&networkv1.HostSubnet{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, EgressCIDRs: []networkv1.EgressCIDR{"192.0.2.1/26"}}, nil), &v)
	spec.CheckNetNamespace(wishOf(&networkv1.NetNamespace{ObjectMeta: metav1.ObjectMeta{Name: "shop"}, EgressIPs: []networkv1.EgressIP{"2001:db8::1"}}, nil), &v)
	if got := complaints(&v); !strings.HasPrefix(got, "egressCIDRs[0]: ") || !strings.Contains(got, "; egressIPs[0]: ") {
		t.Error(got)
	}
}

func TestTheConditionNamesEveryAddress(t *testing.T) {
	hosted := &egressv1.AssignedAddress{Ip: "192.0.2.1", State: egressv1.AddressState_ADDRESS_STATE_HOSTED, Node: "n1"}
	moving := &egressv1.AssignedAddress{Ip: "192.0.2.2", State: egressv1.AddressState_ADDRESS_STATE_MOVING, Node: "n2"}
	unhosted := &egressv1.AssignedAddress{Ip: "192.0.2.3", State: egressv1.AddressState_ADDRESS_STATE_UNHOSTED, Detail: "no node lists it"}
	cases := []struct {
		name    string
		ips     []string
		decided []*egressv1.AssignedAddress
		status  metav1.ConditionStatus
		reason  string
		message string
	}{
		{"nothing is decided", []string{"192.0.2.1"}, nil, metav1.ConditionUnknown, reasonPending, "192.0.2.1 is not decided upon yet"},
		{"all are hosted", []string{"192.0.2.1"}, []*egressv1.AssignedAddress{hosted}, metav1.ConditionTrue, reasonHosted, "192.0.2.1 is hosted by n1"},
		{
			"some are not", []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"}, []*egressv1.AssignedAddress{hosted, moving, unhosted}, metav1.ConditionFalse, reasonNotHosted,
			"192.0.2.2 is given up by n2 first; 192.0.2.3 is not hosted: no node lists it; 192.0.2.1 is hosted by n1",
		},
		{"one was added", []string{"192.0.2.1", "192.0.2.4"}, []*egressv1.AssignedAddress{hosted}, metav1.ConditionUnknown, reasonPending, "192.0.2.4 is not decided upon yet; 192.0.2.1 is hosted by n1"},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			got, hosts := addressCondition(c.ips, &egressv1.EgressAssignment{Addresses: c.decided})
			if got.Status != c.status || got.Reason != c.reason || got.Message != c.message {
				t.Errorf("%s %s %q", got.Status, got.Reason, got.Message)
			}
			if want := len(c.decided) > 0; (hosts["192.0.2.1"] == "n1") != want {
				t.Errorf("hosts are %v", hosts)
			}
		})
	}
}

// FuzzPolicy feeds objects as an API server might send them. What is accepted has as many
// rules as the object, and none of them is without meaning.
func FuzzPolicy(f *testing.F) {
	f.Add(policyJSON)
	f.Add(`{"metadata": {"namespace": "a", "name": "b"}, "spec": {"order": 4294967296, "egress": [{"type": "Deny", "to": {"cidrSelector": "::/0"}, "ports": [{"port": 70000, "endPort": -5}]}]}}`)
	f.Fuzz(func(t *testing.T, text string) {
		p := &networkv1.EgressNetworkPolicy{}
		if json.Unmarshal([]byte(text), p) != nil {
			t.Skip()
		}
		var unknown, wrong rpcerr.Violations
		policy := policyOf(p, &unknown)
		if spec.CheckPolicy(policy, &wrong); !unknown.Empty() || !wrong.Empty() {
			if complaints(&unknown, &wrong) == "" {
				t.Error("it is refused without a reason")
			}
			return
		}
		if len(policy.GetRules()) != len(p.Spec.Egress) || int64(policy.GetOrder()) != p.Spec.Order {
			t.Errorf("%v became %v", p.Spec, policy)
		}
		for i, r := range policy.GetRules() {
			if len(r.GetPorts()) != len(p.Spec.Egress[i].Ports) || (r.GetCidrSelector() == "") == (r.GetDnsName() == "") {
				t.Errorf("rule %d: %v became %v", i, p.Spec.Egress[i], r)
			}
		}
	})
}

func TestWhoHadAnAddressGetsItBackFirst(t *testing.T) {
	ips := []networkv1.EgressIP{"192.0.2.1"}
	cases := []struct {
		name   string
		ips    []networkv1.EgressIP
		reason string // of its condition; empty: it has none
		want   bool
	}{
		{"hosted", ips, reasonHosted, true},
		{"not hosted, and its own", ips, reasonNotHosted, true},
		{"never looked at", ips, "", false},
		{"another's", ips, reasonTaken, false},
		{"wrong by itself", ips, reasonRefused, false},
		{"nothing", nil, reasonHosted, false},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			n := &networkv1.NetNamespace{EgressIPs: c.ips}
			if c.reason != "" {
				n.Status.Conditions = []metav1.Condition{condition(ConditionEgressIPs, metav1.ConditionFalse, c.reason, "")}
			}
			if got := inForce(n); got != c.want {
				t.Errorf("%v, want %v", got, c.want)
			}
		})
	}
}
