package topology

import (
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Syntax is a rule for names.
type Syntax struct {
	words   string
	pattern *regexp.Regexp
	limit   int
}

// The rules are Kubernetes' own; the patterns are read-only.
var (
	// Label is a DNS-1123 label.
	Label = Syntax{"a DNS-1123 label (small letters, digits, '-'; at most 63 characters)",
		regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`), 63}
	// Subdomain is a DNS-1123 subdomain.
	Subdomain = Syntax{"a DNS-1123 subdomain (small letters, digits, '-', '.'; at most 253 characters)",
		regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`), 253}

	labelName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
)

// Fits tells whether the text follows the rule.
func (s Syntax) Fits(text string) bool { return len(text) <= s.limit && s.pattern.MatchString(text) }

// Words says the rule.
func (s Syntax) Words() string { return s.words }

// name checks a name and, where seen is given, that it comes once.
func (c *checker) name(path, name string, syntax Syntax, seen map[string]bool) {
	switch {
	case name == "":
		c.Addf(path, "required")
	case !syntax.Fits(name):
		c.Addf(path, "%q is not %s", name, syntax.words)
	case seen[name]:
		c.Addf(path, "%q comes twice", name)
	case seen != nil:
		seen[name] = true
	}
}

func (c *checker) labels(path string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		if reason := CheckLabel(key, labels[key]); reason != "" {
			c.Addf(path+"."+key, "%s", reason)
		}
	}
}

// CheckLabel says what is wrong with a label by Kubernetes' syntax; nothing when
// it is right.
func CheckLabel(key, value string) string {
	prefix, name, has := strings.Cut(key, "/")
	if !has {
		prefix, name = "", key
	}
	switch {
	case has && !Subdomain.Fits(prefix):
		return "the prefix of a label's name is " + Subdomain.words
	case len(name) > 63 || !labelName.MatchString(name):
		return "a label's name has from 1 to 63 letters, digits, '-', '_', '.'"
	case value != "" && (len(value) > 63 || !labelName.MatchString(value)):
		return "a label's value has at most 63 letters, digits, '-', '_', '.'"
	}
	return ""
}
