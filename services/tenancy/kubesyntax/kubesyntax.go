// Package kubesyntax checks names, labels and port names by Kubernetes' rules.
//
// Each function answers "" for good text, and otherwise what is wrong with it
// as the end of a sentence that starts with the field's name. It is pure, and
// promises that what it accepts, Kubernetes accepts.
package kubesyntax

import (
	"fmt"
	"strings"
)

// Limits of Kubernetes, in bytes.
const (
	maxLabel     = 63  // RFC 1123 label, label values, names in label keys
	maxSubdomain = 253 // RFC 1123 subdomain, prefixes of label keys
	maxPortName  = 15  // RFC 6335 service name
)

// DNSLabel checks an RFC 1123 label: the name of a namespace.
func DNSLabel(s string) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > maxLabel:
		return fmt.Sprintf("has %d characters, at most %d are allowed", len(s), maxLabel)
	case !dnsLabel(s):
		return fmt.Sprintf("%q is not a DNS-1123 label: lower case letters, digits and '-', with a letter or digit at both ends", s)
	}
	return ""
}

// DNSSubdomain checks an RFC 1123 subdomain: the name of a pod or a node.
func DNSSubdomain(s string) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > maxSubdomain:
		return fmt.Sprintf("has %d characters, at most %d are allowed", len(s), maxSubdomain)
	case !dnsSubdomain(s):
		return fmt.Sprintf("%q is not a DNS-1123 subdomain: lower case letters, digits, '-' and '.', with a letter or digit at both ends of each part", s)
	}
	return ""
}

// LabelKey checks the key of a label: an optional DNS prefix and '/', then a
// name.
func LabelKey(s string) string {
	prefix, name, found := strings.Cut(s, "/")
	if !found {
		prefix, name = "", s
	}
	switch {
	case found && (len(prefix) > maxSubdomain || !dnsSubdomain(prefix)):
		return fmt.Sprintf("%q is not a label key: its prefix is not a DNS-1123 subdomain", s)
	case name == "":
		return fmt.Sprintf("%q is not a label key: it has no name", s)
	case len(name) > maxLabel:
		return fmt.Sprintf("%q is not a label key: its name has more than %d characters", s, maxLabel)
	case !qualified(name):
		return fmt.Sprintf("%q is not a label key: letters, digits, '-', '_' and '.', with a letter or digit at both ends", s)
	}
	return ""
}

// LabelValue checks the value of a label; it may be empty.
func LabelValue(s string) string {
	switch {
	case s == "":
		return ""
	case len(s) > maxLabel:
		return fmt.Sprintf("has %d characters, at most %d are allowed", len(s), maxLabel)
	case !qualified(s):
		return fmt.Sprintf("%q is not a label value: letters, digits, '-', '_' and '.', with a letter or digit at both ends", s)
	}
	return ""
}

// PortName checks the name that a container gives to a port of its: an RFC 6335
// service name in lower case.
func PortName(s string) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > maxPortName:
		return fmt.Sprintf("has %d characters, at most %d are allowed", len(s), maxPortName)
	case !dnsLabel(s) || strings.Contains(s, "--") || strings.Trim(s, "0123456789-") == "":
		return fmt.Sprintf("%q is not a port name: lower case letters, digits and single '-', with a letter, and with a letter or digit at both ends", s)
	}
	return ""
}

func dnsSubdomain(s string) bool {
	for part := range strings.SplitSeq(s, ".") {
		if !dnsLabel(part) {
			return false
		}
	}
	return true
}

func dnsLabel(s string) bool {
	for i := range len(s) {
		c := s[i]
		inner := i > 0 && i < len(s)-1
		if !lower(c) && !digit(c) && (c != '-' || !inner) {
			return false
		}
	}
	return s != ""
}

func qualified(s string) bool {
	for i := range len(s) {
		c := s[i]
		inner := i > 0 && i < len(s)-1
		if !lower(c) && !upper(c) && !digit(c) && (!inner || (c != '-' && c != '_' && c != '.')) {
			return false
		}
	}
	return s != ""
}

func lower(c byte) bool { return c >= 'a' && c <= 'z' }
func upper(c byte) bool { return c >= 'A' && c <= 'Z' }
func digit(c byte) bool { return c >= '0' && c <= '9' }
