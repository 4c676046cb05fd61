package syntax

import (
	"strings"
	"testing"
)

func TestNamesFitTheirRules(t *testing.T) {
	long := strings.Repeat("a", 64)
	for _, c := range []struct {
		rule      Rule
		good, bad []string
	}{
		{Label, []string{"a", "1", "a-b", "1a", long[1:]}, []string{"", "-a", "a-", "A", "a.b", "a_b", long}},
		{Subdomain, []string{"a.b", "1.2", "a-b.c", long}, []string{"", ".", "a.", "a..b", "a.-b"}},
		{Service, []string{"a", "a1", "a-1", long[1:]}, []string{"", "1a", "a-", "a.b", long}},
		{PortName, []string{"a", "http", "8080-http", "a-b-c", "1-a", "abcdefghijklmno"}, []string{"", "80", "8-0", "-a", "a-", "a--b", "A", "a.b", "abcdefghijklmnop"}},
	} {
		for _, text := range c.good {
			if !c.rule.Fits(text) {
				t.Errorf("%q was refused: it is %s", text, c.rule.Words())
			}
		}
		for _, text := range c.bad {
			if c.rule.Fits(text) {
				t.Errorf("%q was accepted as %s", text, c.rule.Words())
			}
		}
	}
}

func TestLabelsFitTheirRules(t *testing.T) {
	for _, c := range []struct {
		key, value, want string
	}{
		{"app", "web", ""}, {"app", "", ""}, {"example.com/App_1", "A.b-c", ""},
		{"", "x", "a label's name"}, {"a/b/c", "x", "a label's name"}, {"A/b", "x", "the prefix"}, {"/b", "x", "the prefix"},
		{"app", "-x", "a label's value"}, {"app", strings.Repeat("a", 64), "a label's value"},
	} {
		if got := CheckLabel(c.key, c.value); !strings.HasPrefix(got, c.want) || c.want == "" && got != "" {
			t.Errorf("%s=%s: got %q, want %q", c.key, c.value, got, c.want)
		}
	}
}
