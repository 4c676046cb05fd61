package kubesyntax

import (
	"regexp"
	"strings"
	"testing"
)

// The rules as Kubernetes publishes them, as regular expressions: the oracle.
var (
	labelRule     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`)
	subdomainRule = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
	// A port name has a letter and no two hyphens in a row besides.
	portRule      = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	letterRule    = regexp.MustCompile(`[a-z]`)
	qualifiedRule = regexp.MustCompile(`^([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]$`)
)

func FuzzRulesAgreeWithKubernetes(f *testing.F) {
	for _, s := range []string{
		"", "default", "kube-public", "-a", "a-", "A", "a.b", "infra.ocp.cn", "a..b", ".a", "a.", "é",
		"kubernetes.io/metadata.name", "app", "a/b/c", "/a", "a/", "Example.com/x", "x_y.Z", "_x", "a\n",
		"http", "8080", "8-0", "web-8080", "we--b", "h2c", "fifteen-letters", "sixteen--letters",
		strings.Repeat("a", 63), strings.Repeat("a", 64), strings.Repeat("a.", 126) + "a", strings.Repeat("a.", 127) + "a",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		prefix, name, found := strings.Cut(s, "/")
		if !found {
			prefix, name = "a", s
		}
		checks := []struct {
			rule      string
			got, want bool
		}{
			{"label", DNSLabel(s) == "", len(s) <= 63 && labelRule.MatchString(s)},
			{"subdomain", DNSSubdomain(s) == "", len(s) <= 253 && subdomainRule.MatchString(s)},
			{"port name", PortName(s) == "", len(s) <= 15 && portRule.MatchString(s) && letterRule.MatchString(s) && !strings.Contains(s, "--")},
			{"label value", LabelValue(s) == "", s == "" || len(s) <= 63 && qualifiedRule.MatchString(s)},
			{
				"label key", LabelKey(s) == "",
				len(prefix) <= 253 && subdomainRule.MatchString(prefix) && len(name) <= 63 && qualifiedRule.MatchString(name),
			},
		}
		for _, c := range checks {
			if c.got != c.want {
				t.Errorf("%q as a %s: accepted %v, want %v", s, c.rule, c.got, c.want)
			}
		}
	})
}
