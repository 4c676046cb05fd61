package egressrouter

import (
	"maps"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/damask-sdn/damask/services/nodeagent/egressrouter/annotation"
)

func TestARouterIsWhatItsAnnotationsSay(t *testing.T) {
	spec, wanted, err := Parse(map[string]string{
		annotation.Assign: "true", annotationSource: "192.168.12.99/24", annotationGateway: "192.168.12.1",
		annotationDestination: "# mail first\n80 tcp 203.0.113.25\n\n  8080 tcp 203.0.113.26 80\n8080 udp 203.0.113.26\n203.0.113.27\n", "other.io/thing": "x",
	})
	if err != nil || !wanted {
		t.Fatal(wanted, err)
	}
	address := netip.MustParseAddr
	redirects := []Redirect{
		{"tcp", 80, address("203.0.113.25"), 80}, {"tcp", 8080, address("203.0.113.26"), 80}, {"udp", 8080, address("203.0.113.26"), 8080},
	}
	if !slices.Equal(spec.Redirects, redirects) || spec.Fallback != address("203.0.113.27") {
		t.Errorf("destinations %v, fallback %v", spec.Redirects, spec.Fallback)
	}
	if spec.Source != netip.MustParsePrefix("192.168.12.99/24") || spec.Gateway != address("192.168.12.1") || spec.Parent != "" {
		t.Errorf("got %+v", spec)
	}
}

func TestWhoIsARouter(t *testing.T) {
	proxy := map[string]string{
		annotation.Assign: "eth1", annotationSource: "192.168.12.99", annotationGateway: "192.168.12.1", annotationMode: "http-proxy",
	}
	withRules := maps.Clone(proxy)
	withRules[annotationHTTP] = "!10.0.0.0/8\n*"
	for _, c := range []struct {
		name               string
		annotations        map[string]string
		wanted, configured bool
		parent             string
	}{
		{"nobody who does not ask", map[string]string{"a": "b"}, false, false, ""},
		{"nobody who says no", map[string]string{annotation.Assign: "false"}, false, false, ""},
		{"one that configures itself", map[string]string{annotation.Assign: "true"}, true, false, ""},
		{"a proxy on another interface", proxy, true, true, "eth1"},
		{"a proxy with its rules", withRules, true, true, "eth1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			spec, wanted, err := Parse(c.annotations)
			if err != nil || wanted != c.wanted || spec.Configured() != c.configured || spec.Parent != c.parent || len(spec.Redirects) > 0 {
				t.Errorf("got %+v, %t, %v", spec, wanted, err)
			}
		})
	}
}

func TestEveryProblemIsNamed(t *testing.T) {
	with := func(changes map[string]string) map[string]string {
		all := map[string]string{
			annotation.Assign: "true", annotationSource: "192.168.12.99", annotationGateway: "192.168.12.1", annotationDestination: "203.0.113.25",
		}
		for key, value := range changes {
			all[key] = value
		}
		return all
	}
	for name, c := range map[string]struct {
		annotations map[string]string
		want        []string
	}{
		"no interface":        {map[string]string{annotationSource: "192.168.12.99"}, []string{annotation.Assign + ": is required"}},
		"said no, and more":   {map[string]string{annotation.Assign: "false", annotationSource: "192.168.12.99"}, []string{annotation.Assign + ": is required"}},
		"a name that is none": {map[string]string{annotation.Assign: "an/interface"}, []string{`"an/interface" is not "true"`}},
		"nothing but a mode": {map[string]string{annotation.Assign: "true", annotationMode: "init"},
			[]string{`EGRESS_SOURCE: ""`, `EGRESS_GATEWAY: ""`, "at least one destination is needed"}},
		"everything at once": {with(map[string]string{annotationSource: "fd00::1", annotationGateway: "224.0.0.1", annotationMode: "relay", annotation.Prefix + "EGRESS_COLOUR": "red"}),
			[]string{"EGRESS_COLOUR: is not known", `EGRESS_SOURCE: "fd00::1"`, `EGRESS_GATEWAY: "224.0.0.1"`, `EGRESS_ROUTER_MODE: "relay"`}},
		"a gateway elsewhere":   {with(map[string]string{annotationSource: "192.168.12.99/28"}), []string{"192.168.12.1 is not in the network of 192.168.12.99/28"}},
		"a gateway to itself":   {with(map[string]string{annotationGateway: "192.168.12.99"}), []string{"is the router's own address"}},
		"a proxy's destination": {with(map[string]string{annotationMode: "dns-proxy"}), []string{"EGRESS_DESTINATION: belongs to mode init"}},
		"a proxy's in mode init": {with(map[string]string{annotationHTTP: "*", annotationDNS: "80 example.com"}),
			[]string{"EGRESS_HTTP_PROXY_DESTINATION: belongs to mode http-proxy, not to mode init", "EGRESS_DNS_PROXY_DESTINATION: belongs to mode dns-proxy, not to mode init"}},
		"wrong lines of a proxy for HTTP": {with(map[string]string{annotationMode: "http-proxy", annotationHTTP: "!*\n10.0.0.1/8\n*"}),
			[]string{`EGRESS_HTTP_PROXY_DESTINATION: line 1: "!*"`, `EGRESS_HTTP_PROXY_DESTINATION: line 2: "10.0.0.1/8"`}},
		"wrong lines of a proxy for names": {with(map[string]string{annotationMode: "dns-proxy", annotationDNS: "80\n81 a..b"}),
			[]string{`EGRESS_DNS_PROXY_DESTINATION: line 1: "80"`, `EGRESS_DNS_PROXY_DESTINATION: line 2: "a..b"`}},
		"wrong lines": {with(map[string]string{annotationDestination: "0 tcp 1.2.3.4\n80 icmp 1.2.3.4\n80 tcp host 70000\n80 tcp\n80 tcp 1.2.3.4 5 6\n80 tcp 1.2.3.4\n80 tcp 1.2.3.5\n1.2.3.4\n81 tcp 1.2.3.4"}),
			[]string{`line 1: "0" is not a port`, `line 2: "icmp" is none of`, `line 3: "host" is not`, `line 3: "70000" is not a port`, "line 4: is not PORT", "line 5: is not PORT",
				"line 7: port 80 of tcp has a destination already", "line 9: comes after"}},
		"comments alone": {with(map[string]string{annotationDestination: "# nothing\n"}), []string{"at least one destination is needed"}},
	} {
		t.Run(name, func(t *testing.T) {
			_, _, err := Parse(c.annotations)
			if err == nil {
				t.Fatal("accepted")
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v: does not say %q", err, want)
				}
			}
		})
	}
}

// FuzzParse: whatever is accepted can be programmed.
func FuzzParse(f *testing.F) {
	f.Add("true", "192.168.12.99/24", "192.168.12.1", "80 tcp 203.0.113.25\n203.0.113.27", "init")
	f.Add("eth1", "192.168.12.99", "192.168.12.1", "# x\n80 sctp 203.0.113.25 81", "")
	f.Add("false", "", "", "", "http-proxy")
	f.Add("true", "192.168.12.99", "192.168.12.1", "!10.0.0.0/8\n*", "http-proxy")
	f.Add("true", "192.168.12.99", "192.168.12.1", "80 example.com", "dns-proxy")
	f.Fuzz(func(t *testing.T, assign, source, gateway, destination, mode string) {
		of := annotationDestination
		switch mode {
		case modeHTTPProxy:
			of = annotationHTTP
		case modeDNSProxy:
			of = annotationDNS
		}
		spec, wanted, err := Parse(map[string]string{
			annotation.Assign: assign, annotationSource: source, annotationGateway: gateway, of: destination, annotationMode: mode,
		})
		if err != nil || !wanted {
			return
		}
		if !spec.Configured() || !spec.Gateway.Is4() || len(spec.Parent) > 15 {
			t.Fatalf("accepted %+v", spec)
		}
		for _, c := range chains(spec, "eth0") {
			for _, r := range c.rules {
				if print, err := r.fingerprint(); err != nil || len(print) > 120 {
					t.Fatalf("rule %q: %v", print, err)
				}
			}
		}
		if spec.LowPorts != (mode == modeDNSProxy) || of != annotationDestination && len(spec.Redirects) > 0 {
			t.Fatalf("mode %q is %+v", mode, spec)
		}
		for _, r := range spec.Redirects {
			if r.Port == 0 || r.ToPort == 0 || !r.To.Is4() {
				t.Fatalf("accepted redirect %+v", r)
			}
		}
	})
}
