package spec

import (
	"fmt"
	"net/netip"
	"regexp"
	"strings"
)

// The forms that Kubernetes gives to names.
var (
	label1035 = regexp.MustCompile(`^[a-z]([a-z0-9-]*[a-z0-9])?$`)
	label1123 = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
	qualified = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?$`)
	portName  = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]*[a-z0-9])?$`)
)

// Limits of Kubernetes, in bytes.
const (
	maxLabel     = 63
	maxSubdomain = 253
	maxPortName  = 15 // RFC 6335
)

// The functions below answer "" for good text, and otherwise what is wrong
// with it, as the end of a sentence that starts with the field's name.

// serviceName checks an RFC 1035 label: a service becomes a name in the DNS.
func serviceName(s string) string {
	if problem := length(s, maxLabel); problem != "" {
		return problem
	}
	if !label1035.MatchString(s) {
		return fmt.Sprintf("%q is not a DNS-1035 label: lower case letters, digits and '-', a letter first and no '-' last", s)
	}
	return ""
}

// dnsLabel checks an RFC 1123 label.
func dnsLabel(s string) string {
	if problem := length(s, maxLabel); problem != "" {
		return problem
	}
	if !label1123.MatchString(s) {
		return fmt.Sprintf("%q is not a DNS-1123 label: lower case letters, digits and '-', with a letter or digit at both ends", s)
	}
	return ""
}

// dnsSubdomain checks an RFC 1123 subdomain.
func dnsSubdomain(s string) string {
	if problem := length(s, maxSubdomain); problem != "" {
		return problem
	}
	for part := range strings.SplitSeq(s, ".") {
		if !label1123.MatchString(part) {
			return fmt.Sprintf("%q is not a DNS-1123 subdomain: lower case letters, digits, '-' and '.', with a letter or digit at both ends of each part", s)
		}
	}
	return ""
}

// labelKey checks the key of a label: an optional DNS prefix and '/', then a
// name.
func labelKey(s string) string {
	prefix, name, found := strings.Cut(s, "/")
	if !found {
		prefix, name = "", s
	}
	if found && dnsSubdomain(prefix) != "" {
		return fmt.Sprintf("%q is not a label key: its prefix is not a DNS-1123 subdomain", s)
	}
	if len(name) > maxLabel || !qualified.MatchString(name) {
		return fmt.Sprintf("%q is not a label key: at most %d letters, digits, '-', '_' and '.', with a letter or digit at both ends", s, maxLabel)
	}
	return ""
}

// labelValue checks the value of a label; it may be empty.
func labelValue(s string) string {
	if s != "" && (len(s) > maxLabel || !qualified.MatchString(s)) {
		return fmt.Sprintf("%q is not a label value: at most %d letters, digits, '-', '_' and '.', with a letter or digit at both ends", s, maxLabel)
	}
	return ""
}

// targetPort checks a number or a name of a port.
func targetPort(s string) string {
	if number, isNumber := numeric(s); isNumber {
		return portNumber(number)
	}
	if len(s) > maxPortName || !portName.MatchString(s) || strings.Contains(s, "--") || !strings.ContainsAny(s, "abcdefghijklmnopqrstuvwxyz") {
		return fmt.Sprintf("%q is neither a port number nor a port name: at most %d lower case letters, digits and single '-', with a letter", s, maxPortName)
	}
	return ""
}

// numeric reads a text of digits; more than a port can have become too many.
func numeric(s string) (uint32, bool) {
	if s == "" || strings.Trim(s, "0123456789") != "" {
		return 0, false
	}
	n := uint32(0)
	for _, c := range s {
		n = min(n*10+uint32(c-'0'), 1<<20) //nolint:gosec // a digit
	}
	return n, true
}

func portNumber(n uint32) string {
	if n < 1 || n > 65535 {
		return fmt.Sprintf("%d is not within 1 to 65535", n)
	}
	return ""
}

// address checks an address that may be a service's or an endpoint's.
func address(s string) string {
	addr, err := netip.ParseAddr(s)
	switch {
	case err != nil || addr.Zone() != "":
		return fmt.Sprintf("%q is not an IP address", s)
	case !addr.Is4():
		return fmt.Sprintf("%q is not IPv4, the only family today", s)
	case addr.String() != s:
		return fmt.Sprintf("%q is not canonical: %q is", s, addr)
	case addr.IsUnspecified() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsMulticast():
		return fmt.Sprintf("%q is a special address: unspecified, loopback, link-local or multicast", s)
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

func length(s string, limit int) string {
	switch {
	case s == "":
		return "is required"
	case len(s) > limit:
		return fmt.Sprintf("has %d characters, at most %d are allowed", len(s), limit)
	}
	return ""
}
