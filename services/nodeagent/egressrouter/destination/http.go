package destination

import (
	"net/netip"
	"strings"
)

// HTTPRules say which destinations a proxy for HTTP leads to: the first that matches
// decides.
type HTTPRules struct {
	rules []httpRule
	rest  bool // what no rule matches is allowed
}

// httpRule matches by network or by name.
type httpRule struct {
	allow   bool
	network netip.Prefix // not valid: by name
	name    string
	below   bool // also the names below it
}

// ParseHTTP reads EGRESS_HTTP_PROXY_DESTINATION. A line is an IPv4 address, a network, a
// name, or *.NAME for a name and all below it; ! before it denies instead. A last line *
// allows what the others do not match; without it that is denied. The first line that
// matches decides. Empty lines and those that begin with # are left out.
func ParseHTTP(text string) (HTTPRules, Problems) {
	var rules HTTPRules
	var p Problems
	all := lines(text, &p)
	allows := false
	for i, l := range all {
		if l.text == "*" {
			if i < len(all)-1 {
				p.addf("%v: * is for what no other line matches and must be the last", l)
			}
			rules.rest, allows = true, true
			continue
		}
		pattern, deny := strings.CutPrefix(l.text, "!")
		rule, problem := httpPattern(pattern)
		if problem != "" {
			p.addf("%v: %q %s", l, l.text, problem)
		}
		rule.allow = !deny
		allows = allows || rule.allow
		rules.rules = append(rules.rules, rule)
	}
	if !allows && len(all) > 0 {
		p.addf("all lines deny, so that nothing is allowed; a last line * allows the rest")
	}
	if len(p) > 0 {
		return HTTPRules{}, p
	}
	return rules, nil
}

// httpPattern reads what a line is about, and answers what is wrong with it.
func httpPattern(text string) (rule httpRule, problem string) {
	const what = "is no IPv4 address, network, name or *.NAME, with or without a ! before it"
	if addr, err := netip.ParseAddr(text); err == nil {
		if !addr.Is4() {
			return rule, "is not IPv4"
		}
		return httpRule{network: netip.PrefixFrom(addr, addr.BitLen())}, ""
	}
	if network, err := netip.ParsePrefix(text); err == nil {
		switch {
		case !network.Addr().Is4():
			return rule, "is not IPv4"
		case network != network.Masked():
			return rule, "has bits beyond the length of its prefix; the network is " + network.Masked().String()
		}
		return httpRule{network: network}, ""
	}
	name, below := strings.CutPrefix(text, "*.")
	if name = HostName(name); name == "" {
		return rule, what
	}
	return httpRule{name: name, below: below}, ""
}

// Allows judges an address, which the client gave as such if name is "", and else found by
// that name.
func (r HTTPRules) Allows(name string, addr netip.Addr) bool {
	name = HostName(name)
	for _, rule := range r.rules {
		if rule.network.IsValid() && rule.network.Contains(addr) || !rule.network.IsValid() && rule.has(name) {
			return rule.allow
		}
	}
	return r.rest
}

// Denies says that a name is denied whatever addresses it has: nobody needs to look it up.
func (r HTTPRules) Denies(name string) bool {
	if name = HostName(name); name == "" {
		return true
	}
	for _, rule := range r.rules {
		switch {
		case rule.network.IsValid() && rule.allow:
			return false
		case !rule.network.IsValid() && rule.has(name):
			return !rule.allow
		}
	}
	return !r.rest
}

func (r httpRule) has(name string) bool {
	return name != "" && (name == r.name || r.below && strings.HasSuffix(name, "."+r.name))
}
