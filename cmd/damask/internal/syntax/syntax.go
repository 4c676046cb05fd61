// Package syntax is how Kubernetes writes names and labels.
//
// It owns the rules and the words that say them, for what a person writes here:
// topologies, files of services, command lines. It promises to accept what
// Kubernetes accepts and nothing else. It must not know what a name is of.
//
// Used by the lab's topology and supervisor, and by package servicefile.
package syntax

import (
	"regexp"
	"strings"
)

// Rule is a rule for names.
type Rule struct {
	words   string
	pattern *regexp.Regexp
	limit   int
}

// The rules are Kubernetes' own; the patterns are read-only.
var (
	// Label is a DNS-1123 label.
	Label = Rule{"a DNS-1123 label (small letters, digits, '-'; at most 63 characters)",
		regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?$`), 63}
	// Subdomain is a DNS-1123 subdomain.
	Subdomain = Rule{"a DNS-1123 subdomain (small letters, digits, '-', '.'; at most 253 characters)",
		regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`), 253}
	// Service is a DNS-1035 label, which services have for names.
	Service = Rule{"a DNS-1035 label (small letters, digits, '-', a letter first; at most 63 characters)",
		regexp.MustCompile(`^[a-z]([-a-z0-9]*[a-z0-9])?$`), 63}
	// PortName is the name of a port of a pod (RFC 6335).
	PortName = Rule{"the name of a port (small letters, digits, single '-', with a letter; at most 15 characters)",
		regexp.MustCompile(`^([0-9]+-)*[0-9]*[a-z][a-z0-9]*(-[a-z0-9]+)*$`), 15}

	labelName = regexp.MustCompile(`^[A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?$`)
)

// Fits tells whether the text follows the rule.
func (r Rule) Fits(text string) bool { return len(text) <= r.limit && r.pattern.MatchString(text) }

// Words says the rule.
func (r Rule) Words() string { return r.words }

// CheckLabel says what is wrong with a label; nothing when it is right.
func CheckLabel(key, value string) string {
	if reason := CheckKey(key); reason != "" {
		return reason
	}
	if value != "" && (len(value) > 63 || !labelName.MatchString(value)) {
		return "a label's value has at most 63 letters, digits, '-', '_', '.'"
	}
	return ""
}

// CheckKey says what is wrong with the key of a label or of an annotation;
// nothing when it is right.
func CheckKey(key string) string {
	prefix, name, has := strings.Cut(key, "/")
	if !has {
		prefix, name = "", key
	}
	switch {
	case has && !Subdomain.Fits(prefix):
		return "the prefix of a label's name is " + Subdomain.words
	case len(name) > 63 || !labelName.MatchString(name):
		return "a label's name has from 1 to 63 letters, digits, '-', '_', '.'"
	}
	return ""
}
