package spec

import (
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/damask-sdn/damask/internal/rpcerr"
	egressv1 "github.com/damask-sdn/damask/proto/damask/egress/v1"
)

// FuzzRule feeds texts that operators type. What is accepted must be usable: a
// range, or a name that a question can be made of.
func FuzzRule(f *testing.F) {
	for _, seed := range []string{"0.0.0.0/0", "192.0.2.1", "*.example.com", "www.example.com", "a..b", "-a.com", "1.2.3.4", strings.Repeat("a", 64) + ".com", "*.", "*", "fd00::/64"} {
		f.Add(seed, seed)
	}
	f.Fuzz(func(t *testing.T, cidr, name string) {
		var v rpcerr.Violations
		CheckPolicy(&egressv1.EgressNetworkPolicy{Namespace: "a", Name: "b", Rules: []*egressv1.EgressRule{
			{Type: egressv1.RuleType_RULE_TYPE_ALLOW, DnsName: name},
		}}, &v)
		if v.Empty() {
			plain := strings.TrimPrefix(name, "*.")
			m := new(dns.Msg)
			m.SetQuestion(dns.Fqdn(plain), dns.TypeA)
			if _, err := m.Pack(); err != nil || plain != strings.ToLower(plain) || strings.HasSuffix(plain, ".") {
				t.Errorf("%q was accepted: %v", name, err)
			}
		}
		if got := network(cidr); got == "" && !strings.Contains(cidr, "/") {
			t.Errorf("%q is accepted as a range", cidr)
		}
		if got := address(cidr); got == "" && strings.ContainsAny(cidr, ":/%") {
			t.Errorf("%q is accepted as an address", cidr)
		}
	})
}
