package lab

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// natRule is a row of the observed iptables.
type natRule struct {
	Chain   string
	Rule    string
	Comment string
	Note    string
	From    yaml.Node
}

// natName is a row of the names that can be computed.
type natName struct {
	Service  string
	PortName string `yaml:"port_name"`
	Svc      string
	Endpoint string
	Sep      string
}

// observedServices are the services that were observed, one with two endpoints, and the
// egress IP on the node that hosts it.
const observedServices = `
mode: multitenant
nodes: [{name: node1, egressIPs: [192.168.108.200]}]
namespaces: [{name: kube-public, vnid: 8583346, egressIPs: [192.168.108.200]}]
services:
- {namespace: default, name: tomcat-service, clusterIP: 172.30.161.148, ports: [{port: 8080}]}
- {namespace: logging, name: logging-es, ports: [{port: 9200}]}
- {namespace: default, name: two, ports: [{port: 80}]}
endpointSlices:
- {namespace: default, name: tomcat, serviceName: tomcat-service, ports: [{port: 8080}], endpoints: [{addresses: [10.131.0.4]}]}
- {namespace: logging, name: es, serviceName: logging-es, ports: [{port: 9200}], endpoints: [{addresses: [10.131.2.45]}]}
- {namespace: default, name: two, serviceName: two, ports: [{port: 80}], endpoints: [{addresses: [10.131.0.4]}, {addresses: [10.131.0.5]}]}
`

func TestObservedNatRulesAreOnTheNodesOfALab(t *testing.T) {
	data, err := os.ReadFile("../observed/iptables.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var observed struct {
		Names     []natName
		Conntrack yaml.Node
		Nat       []natRule
	}
	if err := yaml.Unmarshal(data, &observed); err != nil {
		t.Fatal(err)
	}
	c := up(t, observedServices)
	c.ctl("service", "wait", "default/tomcat-service", "logging/logging-es", "default/two")
	c.wantHosted(t, "192.168.108.200")
	c.ctl("patch", "netnamespace", "kube-public", "-p", `{"egressIPs": ["192.168.108.200"]}`) // returns when it is in force
	rules := c.exec(onNode("node1"), "iptables", "-t", "nat", "-S")
	judged := 0
	for _, want := range observed.Nat {
		judged++
		if want.Chain == "KUBE-SVC with two endpoints" {
			wantTwoEndpoints(t, rules, want.Rule)
			continue
		}
		if !hasRule(rules, want) {
			t.Errorf("no rule %q %q with comment %q in:\n%s", want.Chain, want.Rule, want.Comment, rules)
		}
	}
	if judged < 13 {
		t.Errorf("only %d rules were judged", judged)
	}
	for _, n := range observed.Names {
		if n.PortName != "" {
			t.Fatalf("%s: the topology of this test has no names of ports", n.Service)
		}
		for _, rule := range []natRule{
			{Chain: n.Svc, Rule: "-j " + n.Sep}, {Chain: n.Sep, Rule: "-p tcp -j DNAT --to-destination " + n.Endpoint},
		} {
			if !hasRule(rules, rule) {
				t.Errorf("%s: no rule %q %q in:\n%s", n.Service, rule.Chain, rule.Rule, rules)
			}
		}
	}
}

// wantTwoEndpoints looks for a chain with just the rules of the pattern "FIRST, then
// SECOND", in which the chains of endpoints are "KUBE-SEP-<...>".
func wantTwoEndpoints(t *testing.T, rules, pattern string) {
	t.Helper()
	sep := regexp.MustCompile(`KUBE-SEP-[^\s,]+`)
	chains := map[string][]string{}
	for line := range strings.Lines(rules) {
		chain, rule, ok := strings.Cut(strings.TrimPrefix(strings.TrimSpace(line), "-A "), " ")
		if ok && strings.HasPrefix(chain, "KUBE-SVC-") {
			chains[chain] = append(chains[chain], sep.ReplaceAllString(bare(rule), "KUBE-SEP"))
		}
	}
	want := strings.Split(sep.ReplaceAllString(pattern, "KUBE-SEP"), ", then ")
	for _, got := range chains {
		if slices.Equal(got, want) {
			return
		}
	}
	t.Errorf("no chain has just %q: %q", want, chains)
}

// hasRule looks for a line that means the same.
func hasRule(rules string, want natRule) bool {
	for line := range strings.Lines(rules) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "-A "+want.Chain+" ")
		if ok && bare(text) == want.Rule && (want.Comment == "" || strings.Contains(text, `--comment "`+want.Comment+`"`)) {
			return true
		}
	}
	return false
}

// bare takes comments and the spelling of iptables from a rule: observed rules were
// written down as they are typed.
func bare(rule string) string {
	if before, rest, found := strings.Cut(rule, `-m comment --comment "`); found {
		_, after, _ := strings.Cut(rest, `" `)
		rule = before + after
	}
	rule = strings.NewReplacer("-m tcp ", "", "-m udp ", "").Replace(rule)
	words := strings.Fields(rule)
	for i, w := range words {
		if i > 0 && words[i-1] == "-s" {
			words[i] = strings.TrimSuffix(w, "/32")
		}
	}
	return strings.Join(words, " ")
}
