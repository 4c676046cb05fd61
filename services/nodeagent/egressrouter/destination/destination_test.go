package destination

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestTheFirstLineThatMatchesDecides(t *testing.T) {
	rules, problems := ParseHTTP(`
# Not to the test systems, and not to one network.
!*.test.example.com
!192.168.1.0/24
*.example.com
www.example.org
203.0.113.7
198.51.100.0/24
`)
	if problems != nil {
		t.Fatal(problems)
	}
	for _, c := range []struct {
		name, addr string
		want       bool
	}{
		{"example.com", "8.8.8.8", true},
		{"a.b.example.com", "8.8.8.8", true},
		{"WWW.Example.COM.", "8.8.8.8", true},
		{"www.example.com", "192.168.1.7", false}, // The network comes first.
		{"test.example.com", "8.8.8.8", false},
		{"a.test.example.com", "203.0.113.7", false},
		{"badexample.com", "8.8.8.8", false},
		{"www.example.org", "8.8.8.8", true},
		{"a.www.example.org", "8.8.8.8", false},
		{"a.www.example.org", "198.51.100.200", true}, // It has an address that is allowed.
		{"", "203.0.113.7", true},
		{"", "203.0.113.8", false},
		{"", "198.51.100.1", true},
		{"", "192.168.1.1", false},
	} {
		addr := netip.MustParseAddr(c.addr)
		if got := rules.Allows(c.name, addr); got != c.want {
			t.Errorf("%q with %s is allowed: %t, want %t", c.name, c.addr, got, c.want)
		}
	}
	for name, want := range map[string]bool{"test.example.com": true, "www.example.com": false, "anything.example.net": false, "": true, "a b": true} {
		if got := rules.Denies(name); got != want {
			t.Errorf("%q is denied without a look-up: %t, want %t", name, got, want)
		}
	}
}

func TestALastStarAllowsTheRest(t *testing.T) {
	rules, problems := ParseHTTP("!*.example.com\n*")
	if problems != nil {
		t.Fatal(problems)
	}
	addr := netip.MustParseAddr("203.0.113.7")
	if rules.Allows("www.example.com", addr) || !rules.Allows("www.example.org", addr) || !rules.Allows("", addr) || rules.Denies("www.example.org") {
		t.Errorf("%+v", rules)
	}
}

func TestForwardsAreByPort(t *testing.T) {
	forwards, problems := ParseDNS("80 172.16.12.11\n\n# a name\n 100  Example.COM\n8080 203.0.113.1 80\n443 www.example.com 8443")
	want := []Forward{
		{80, netip.MustParseAddr("172.16.12.11"), "", 80}, {100, netip.Addr{}, "example.com", 100},
		{8080, netip.MustParseAddr("203.0.113.1"), "", 80}, {443, netip.Addr{}, "www.example.com", 8443},
	}
	if problems != nil || !slices.Equal(forwards, want) {
		t.Errorf("got %v, %v", forwards, problems)
	}
}

func TestEveryBadLineIsNamed(t *testing.T) {
	http := func(text string) Problems { _, p := ParseHTTP(text); return p }
	dns := func(text string) Problems { _, p := ParseDNS(text); return p }
	const form = "is no IPv4 address, network, name or *.NAME, with or without a ! before it"
	for _, c := range []struct {
		name  string
		parse func(string) Problems
		text  string
		want  []string
	}{
		{"http: nothing", http, "\n# only words\n", []string{"at least one destination is needed"}},
		{"http: all kinds", http, "*\n192.168.1.1/24\n2001:db8::1\n2001:db8::/32\n!*\na..b\n! example.com\n*.*.com\n10.0.0\n\n-a.com\nhttp://example.com\nexample.com:80", []string{
			"line 1: * is for what no other line matches and must be the last",
			`line 2: "192.168.1.1/24" has bits beyond the length of its prefix; the network is 192.168.1.0/24`,
			`line 3: "2001:db8::1" is not IPv4`, `line 4: "2001:db8::/32" is not IPv4`,
			`line 5: "!*" ` + form, `line 6: "a..b" ` + form, `line 7: "! example.com" ` + form, `line 8: "*.*.com" ` + form, `line 9: "10.0.0" ` + form,
			`line 11: "-a.com" ` + form, `line 12: "http://example.com" ` + form, `line 13: "example.com:80" ` + form,
		}},
		{"http: nothing is allowed", http, "!example.com", []string{"all lines deny, so that nothing is allowed; a last line * allows the rest"}},
		{"http: too many", http, strings.Repeat("a.example.com\n", 1001), []string{"1001 destinations, at most 1000 can be given"}},
		{"dns: nothing", dns, "", []string{"at least one destination is needed"}},
		{"dns: all kinds", dns, "80\n80 a.example.com 80 tcp\n0 a.example.com\n70000 a.example.com 0\n80 10.0.0\n80 ::1\n80 127.0.0.1\n81 a.example.com\n81 b.example.com", []string{
			`line 1: "80" is not PORT DESTINATION, with or without a port of the destination`,
			`line 2: "80 a.example.com 80 tcp" is not PORT DESTINATION, with or without a port of the destination`,
			`line 3: "0" is not a port: 1 to 65535`,
			`line 4: "70000" is not a port: 1 to 65535`, `line 4: "0" is not a port: 1 to 65535`,
			`line 5: "10.0.0" is no name and no IPv4 address of a host`,
			`line 6: "::1" is no name and no IPv4 address of a host`, `line 6: port 80 is that of line 5 already`,
			`line 7: "127.0.0.1" is no name and no IPv4 address of a host`, `line 7: port 80 is that of line 6 already`,
			"line 9: port 81 is that of line 8 already",
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := c.parse(c.text); !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// FuzzHTTP holds rules against what they say of themselves.
func FuzzHTTP(f *testing.F) {
	f.Add("!*.example.com\n!192.168.1.0/24\n192.168.2.1\n*", "a.example.com", []byte{192, 168, 2, 1})
	f.Add("*.example.com\n10.0.0.0/8", "EXAMPLE.com.", []byte{10, 0, 0, 1})
	f.Fuzz(func(t *testing.T, text, name string, bytes []byte) {
		rules, problems := ParseHTTP(text)
		addr, ok := netip.AddrFromSlice(bytes)
		if problems != nil || !ok || !addr.Is4() {
			return
		}
		if rules.Denies(name) && HostName(name) != "" && rules.Allows(name, addr) {
			t.Errorf("%q denies %q and allows it with %s", text, name, addr)
		}
		if rules.Allows(name, addr) != rules.Allows(strings.ToUpper(name)+".", addr) && HostName(name) != "" && HostName(strings.ToUpper(name)+".") == HostName(name) {
			t.Errorf("%q: how %q is written decides", text, name)
		}
	})
}

func FuzzDNS(f *testing.F) {
	f.Add("80 172.16.12.11\n100 example.com\n8080 203.0.113.1 80")
	f.Fuzz(func(t *testing.T, text string) {
		forwards, problems := ParseDNS(text)
		if problems == nil && len(forwards) == 0 {
			t.Errorf("%q is neither right nor wrong", text)
		}
		seen := map[uint16]bool{}
		for _, f := range forwards {
			if f.Port == 0 || f.ToPort == 0 || f.Addr.IsValid() == (f.Name != "") || seen[f.Port] {
				t.Errorf("%q has %+v", text, f)
			}
			seen[f.Port] = true
		}
	})
}
