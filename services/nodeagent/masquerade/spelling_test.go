package masquerade

import (
	"slices"
	"testing"
)

func TestRuleIsReadAsIptablesPrintsIt(t *testing.T) {
	for _, c := range []struct {
		name, line string
		want       rule
		ok         bool
	}{
		{"a plain rule", "-A C -s 10.0.0.0/8 -j RETURN", rule{"-s", "10.0.0.0/8", "-j", "RETURN"}, true},
		{"a quoted comment", `-A C -m comment --comment "a b" -j X`, rule{"-m", "comment", "--comment", "a b", "-j", "X"}, true},
		{"a quote in a comment", `-A C -m comment --comment "a \"b\" \\ c" -j X`, rule{"-m", "comment", "--comment", `a "b" \ c`, "-j", "X"}, true},
		{"an empty comment", `-A C --comment ""`, rule{"--comment", ""}, true},
		{"a rule without words", "-A C", rule{}, true},
		{"another chain's rule", "-A D -j X", nil, false},
		{"a chain's declaration", "-N C", nil, false},
		{"a policy", "-P C ACCEPT", nil, false},
		{"nothing", "", nil, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok, err := parseRule(c.line, "C")
			if err != nil || ok != c.ok || !slices.Equal(got, c.want) {
				t.Errorf("parseRule(%q) = %q, %v, %v; want %q, %v", c.line, got, ok, err, c.want, c.ok)
			}
		})
	}
	if _, _, err := parseRule(`-A C --comment "open`, "C"); err == nil {
		t.Error("an open quote is no error")
	}
}

func TestSpellingsOfTheSameRuleAreEqual(t *testing.T) {
	for _, c := range []struct {
		name string
		a, b rule
		want bool
	}{
		{"notrack by its new name", rule{"-j", "NOTRACK"}, rule{"-j", "CT", "--notrack"}, true},
		{"gre by number", rule{"-p", "gre", "-j", "ACCEPT"}, rule{"-p", "47", "-j", "ACCEPT"}, true},
		{"47 that is no protocol", rule{"--dport", "47"}, rule{"--dport", "gre"}, false},
		{"another order", rule{"-s", "a", "-d", "b"}, rule{"-d", "b", "-s", "a"}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := same(c.a, c.b); got != c.want {
				t.Errorf("same(%q, %q) = %v", c.a, c.b, got)
			}
		})
	}
}

// FuzzRuleSurvivesPrinting prints any words as a rule and reads them back.
func FuzzRuleSurvivesPrinting(f *testing.F) {
	f.Add("-s", "10.0.0.0/8", `quote " and \ back`)
	f.Add("", " ", "\t")
	f.Fuzz(func(t *testing.T, a, b, c string) {
		for _, w := range []string{a, b, c} {
			for _, r := range w {
				// iptables prints no line breaks, and words are text.
				if r == '\n' || r == '\uFFFD' {
					t.Skip()
				}
			}
		}
		want := rule{a, b, c}
		got, ok, err := parseRule("-A C "+want.String(), "C")
		if err != nil || !ok || !slices.Equal(got, want) {
			t.Fatalf("printed %q, read %q, %v, %v; want %q", want.String(), got, ok, err, want)
		}
	})
}

// FuzzParseRule looks for a line that makes the reader crash or invent words.
func FuzzParseRule(f *testing.F) {
	f.Add(`-A OPENSHIFT-MASQUERADE -m mark --mark 0x1/0x1 -j RETURN`)
	f.Add(`-A C -m comment --comment "a \"b`)
	f.Fuzz(func(t *testing.T, line string) {
		got, ok, err := parseRule(line, "C")
		if (err != nil || !ok) && got != nil {
			t.Fatalf("parseRule(%q) = %q with %v, %v", line, got, ok, err)
		}
	})
}
