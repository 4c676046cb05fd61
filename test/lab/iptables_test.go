package lab

import (
	"os"
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

// laterRule says of an observed rule whether it needs what does not exist yet: chains of
// services, host ports, and egress IPs.
func laterRule(r natRule) bool {
	return strings.HasPrefix(r.Chain, "KUBE-") || strings.Contains(r.Rule, "KUBE-") || // services
		strings.Contains(r.Comment, "hostports") || strings.Contains(r.Note, "egress IP")
}

func TestObservedNatRulesAreOnTheNodesOfALab(t *testing.T) {
	data, err := os.ReadFile("../observed/iptables.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var observed struct {
		Names, Conntrack yaml.Node
		Nat              []natRule
	}
	if err := yaml.Unmarshal(data, &observed); err != nil {
		t.Fatal(err)
	}
	c := up(t, "nodes: [{name: node1}]\n")
	rules := c.exec(onNode("node1"), "iptables", "-t", "nat", "-S")
	judged := 0
	for _, want := range observed.Nat {
		if laterRule(want) {
			continue
		}
		judged++
		if !hasRule(rules, want) {
			t.Errorf("no rule %q %q with comment %q in:\n%s", want.Chain, want.Rule, want.Comment, rules)
		}
	}
	if judged < 3 {
		t.Errorf("only %d rules were judged", judged)
	}
}

// hasRule looks for a line with the same words; a comment stands in the middle of
// what iptables prints.
func hasRule(rules string, want natRule) bool {
	for line := range strings.Lines(rules) {
		text, ok := strings.CutPrefix(strings.TrimSpace(line), "-A "+want.Chain+" ")
		if !ok {
			continue
		}
		if want.Comment != "" {
			without := strings.Replace(text, `-m comment --comment "`+want.Comment+`" `, "", 1)
			if without == text {
				continue
			}
			text = without
		}
		if text == want.Rule {
			return true
		}
	}
	return false
}
