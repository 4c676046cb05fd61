// Package spec says what is wrong with a request by itself.
//
// It promises to name every violation, by its path in the request. It must not
// look at what is stored.
package spec

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"

	"github.com/damask-sdn/damask/internal/rpcerr"
)

// The forms that Kubernetes gives to names.
var (
	label     = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	qualified = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
)

// Limits of Kubernetes, in bytes.
const (
	maxLabel     = 63
	maxSubdomain = 253
)

// CheckNamespace checks the name of a namespace.
func CheckNamespace(field, s string, v *rpcerr.Violations) { add(v, field, dnsLabel(s)) }

// CheckNode checks the name of a node.
func CheckNode(field, s string, v *rpcerr.Violations) { add(v, field, dnsSubdomain(s)) }

func add(v *rpcerr.Violations, field, problem string) {
	if problem != "" {
		v.Addf(field, "%s", problem)
	}
}

// The functions below answer "" for good text, and otherwise what is wrong with
// it, as the end of a sentence that starts with the field's name.

func dnsLabel(s string) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > maxLabel:
		return fmt.Sprintf("has %d characters, at most %d are allowed", len(s), maxLabel)
	case !label.MatchString(s):
		return fmt.Sprintf("%q is not a DNS-1123 label: lower case letters, digits and '-', with a letter or digit at both ends", s)
	}
	return ""
}

func dnsSubdomain(s string) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > maxSubdomain:
		return fmt.Sprintf("has %d characters, at most %d are allowed", len(s), maxSubdomain)
	}
	for part := range strings.SplitSeq(s, ".") {
		if !label.MatchString(part) {
			return fmt.Sprintf("%q is not a DNS-1123 subdomain: lower case letters, digits, '-' and '.', with a letter or digit at both ends of each part", s)
		}
	}
	return ""
}

func labelKey(s string) string {
	prefix, name, found := strings.Cut(s, "/")
	if !found {
		prefix, name = "", s
	}
	if found && dnsSubdomain(prefix) != "" || len(name) > maxLabel || !qualified.MatchString(name) {
		return fmt.Sprintf("%q is not a label key: an optional DNS-1123 subdomain and '/', then at most %d letters, digits, '-', '_' and '.', with a letter or digit at both ends", s, maxLabel)
	}
	return ""
}

func labelValue(s string) string {
	if s != "" && (len(s) > maxLabel || !qualified.MatchString(s)) {
		return fmt.Sprintf("%q is not a label value: at most %d letters, digits, '-', '_' and '.', with a letter or digit at both ends", s, maxLabel)
	}
	return ""
}

// address checks an address that a node could have.
func address(s string) string {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil || addr.Zone() != "":
		return fmt.Sprintf("%q is not an IP address", s)
	case !addr.Is4():
		return fmt.Sprintf("%q is not IPv4, the only family today", s)
	case addr.String() != s:
		return fmt.Sprintf("%q is not canonical: %q is", s, addr)
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast() || addr.As4()[0] >= 240:
		return fmt.Sprintf("%q is a special address: unspecified, loopback, link-local, multicast, broadcast or reserved", s)
	}
	return ""
}

// network checks a range of addresses.
func network(s string) string {
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return fmt.Sprintf("%q is not a range such as 192.0.2.0/24", s)
	case !prefix.Addr().Is4():
		return fmt.Sprintf("%q is not IPv4, the only family today", s)
	case prefix != prefix.Masked() || prefix.String() != s:
		return fmt.Sprintf("%q is not canonical: %q is", s, prefix.Masked())
	}
	return ""
}

// interfaceAddress checks an address with its prefix length.
func interfaceAddress(s string) string {
	prefix, err := netip.ParsePrefix(s)
	switch {
	case err != nil:
		return fmt.Sprintf("%q is not an address with a prefix length, such as 192.0.2.7/24", s)
	case !prefix.Addr().Is4():
		return fmt.Sprintf("%q is not IPv4, the only family today", s)
	case prefix.String() != s:
		return fmt.Sprintf("%q is not canonical: %q is", s, prefix)
	}
	return ""
}
