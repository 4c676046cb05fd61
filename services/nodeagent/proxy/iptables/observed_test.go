package iptables

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// tomcat is the observed service with one endpoint.
func tomcat(t *testing.T, o observed) proxy.Service {
	t.Helper()
	n := o.Names[0]
	backend := netip.MustParseAddrPort(n.Endpoint)
	s := proxy.Service{
		Key:             keyOf(t, n.Service, n.PortName, n.Protocol),
		ClusterIPs:      []netip.Addr{netip.MustParseAddr("172.30.161.148")},
		Port:            8080,
		ClusterBackends: []proxy.Backend{{Addr: backend.Addr(), Port: backend.Port()}},
	}
	s.ExternalBackends = s.ClusterBackends
	return s
}

// bare takes comments and the spelling of iptables-save from a rule: observed rules
// were written down as they are typed.
func bare(rule string) string {
	before, rest, found := strings.Cut(rule, `-m comment --comment "`)
	if found {
		_, after, _ := strings.Cut(rest, `" `)
		rule = before + after
	}
	for _, protocol := range []string{"tcp", "udp"} {
		rule = strings.ReplaceAll(rule, "-m "+protocol+" ", "")
	}
	words := strings.Fields(rule)
	for i, w := range words {
		if i > 0 && words[i-1] == "-s" {
			words[i] = strings.TrimSuffix(w, "/32")
		}
	}
	return strings.Join(words, " ")
}

// commentOf answers a rule's comment.
func commentOf(rule string) string {
	_, rest, _ := strings.Cut(rule, `-m comment --comment "`)
	comment, _, _ := strings.Cut(rest, `"`)
	return comment
}

func TestRulesAreThoseThatWereObserved(t *testing.T) {
	o := loadObserved(t)
	one := tomcat(t, o)
	two := one
	two.Name = "two"
	two.ClusterIPs = []netip.Addr{netip.MustParseAddr("172.30.161.149")}
	two.ClusterBackends = append(slices.Clone(one.ClusterBackends), proxy.Backend{Addr: netip.MustParseAddr("10.131.0.5"), Port: 8080})
	two.ExternalBackends = two.ClusterBackends
	k := newPretend()
	if _, err := pretendEngine(k).Sync(t.Context(), proxy.State{one.Key: one, two.Key: two}); err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, want := range o.NAT {
		if strings.Contains(want.Chain, "OPENSHIFT-") || strings.Contains(want.Rule, "OPENSHIFT-") || strings.Contains(want.Comment, "hostports") {
			continue // the pod network's own, made by the package masquerade
		}
		seen++
		if want.Chain == "KUBE-SVC with two endpoints" {
			expectTwoEndpoints(t, k.chains[place{tableNAT, serviceChain(prefixService, two.Key)}], want.Rule, two)
			continue
		}
		rules := k.chains[place{tableNAT, want.Chain}]
		i := slices.IndexFunc(rules, func(r string) bool { return bare(r) == want.Rule })
		if i < 0 {
			t.Errorf("chain %s holds %q, want %q", want.Chain, rules, want.Rule)
			continue
		}
		if got := commentOf(rules[i]); want.Comment != "" && got != want.Comment {
			t.Errorf("rule %q: got comment %q, want %q", want.Rule, got, want.Comment)
		}
	}
	if seen < 8 {
		t.Errorf("the file has only %d rules for this test", seen)
	}
}

// expectTwoEndpoints compares with "FIRST <first>, then SECOND <second>".
func expectTwoEndpoints(t *testing.T, got []string, pattern string, s proxy.Service) {
	t.Helper()
	backends := own(s.ClusterBackends)
	pattern = strings.ReplaceAll(pattern, "KUBE-SEP-<first>", backendChain(s.Key, backends[0]))
	pattern = strings.ReplaceAll(pattern, "KUBE-SEP-<second>", backendChain(s.Key, backends[1]))
	want := strings.Split(pattern, ", then ")
	var rules []string
	for _, r := range got {
		rules = append(rules, bare(r))
	}
	if !slices.Equal(rules, want) {
		t.Errorf("two endpoints: got %q, want %q", rules, want)
	}
}

func TestChangeOfBackendsTouchesTheServicesOwnChainsOnly(t *testing.T) {
	s := tomcat(t, loadObserved(t))
	s.NodePort = 30080
	more := s
	more.ClusterBackends = append(slices.Clone(s.ClusterBackends), proxy.Backend{Addr: netip.MustParseAddr("10.131.0.5"), Port: 8080})
	more.ExternalBackends = more.ClusterBackends
	none := s
	none.ClusterBackends, none.ExternalBackends = nil, nil
	c := compiler{testNode()}
	svc, first := serviceChain(prefixService, s.Key), backendChain(s.Key, own(s.ClusterBackends)[0])
	second := backendChain(s.Key, own(more.ClusterBackends)[1])
	for _, x := range []struct {
		name      string
		old, new  proxy.Service
		wantLines []string // without the arguments of rules
	}{
		{"one more", s, more, []string{"*nat", ":" + second, ":" + svc, "-A " + second, "-A " + second, "-A " + svc, "-A " + svc, "COMMIT"}},
		{"one less", more, s, []string{"*nat", ":" + svc, ":" + second, "-A " + svc, "-X " + second, "COMMIT"}},
		{"the last goes", s, none, []string{"*nat", ":" + svc, ":" + first, "-X " + first, "COMMIT",
			"*filter", "-I KUBE-SERVICES", "-I KUBE-EXTERNAL-SERVICES", "COMMIT"}},
		{"nothing changes", s, s, nil},
	} {
		t.Run(x.name, func(t *testing.T) {
			b := newBatch()
			b.replace(c.compile(x.old), c.compile(x.new))
			var got []string
			for _, line := range strings.Split(strings.TrimSpace(string(b.text())), "\n") {
				words := strings.Fields(line)
				switch {
				case len(words) == 0:
				case strings.HasPrefix(line, "-"):
					got = append(got, words[0]+" "+words[1])
				default:
					got = append(got, words[0])
				}
			}
			if !slices.Equal(got, x.wantLines) {
				t.Errorf("got\n%s\nwant\n%s\nfull text\n%s", strings.Join(got, "\n"), strings.Join(x.wantLines, "\n"), b.text())
			}
		})
	}
}

func TestClusterIPOfSeveralNetworksIsMasqueradedByDevice(t *testing.T) {
	node := testNode()
	node.ClusterNetworks = append(node.ClusterNetworks, netip.MustParsePrefix("10.200.0.0/16"))
	s := tomcat(t, loadObserved(t))
	for _, e := range (compiler{node}).compile(s).entries {
		if jumpsTo(e.rule) == chainMarkMasq && !strings.Contains(e.rule, "! -i tun0") {
			t.Errorf("rule %q", e.rule)
		}
	}
}

func TestLoadBalancerMayAskForHealth(t *testing.T) {
	s := tomcat(t, loadObserved(t))
	s.HealthCheckNodePort = 32000
	var got []string
	for _, e := range (compiler{testNode()}).compile(s).entries {
		if e.spot.place == (place{tableFilter, chainNodePorts}) {
			got = append(got, bare(e.rule))
		}
	}
	if want := []string{"-p tcp --dport 32000 -j ACCEPT"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
