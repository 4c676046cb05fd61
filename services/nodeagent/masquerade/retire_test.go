package masquerade

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

// TestAStartOnTheAncestorsRulesLeavesOursAndTheAdministrators begins with what OpenShift
// SDN's agent left, rule by rule.
func TestAStartOnTheAncestorsRulesLeavesOursAndTheAdministrators(t *testing.T) {
	eachBackend(t, func(t *testing.T, b *backend) {
		for _, words := range []string{
			"-t raw -N OPENSHIFT-NOTRACK", "-t raw -A OPENSHIFT-NOTRACK -p udp --dport 4789 -j NOTRACK",
			"-t raw -I PREROUTING -m comment --comment disable_conntrack_for_vxlan -j OPENSHIFT-NOTRACK",
			"-t raw -I OUTPUT -m comment --comment disable_conntrack_for_vxlan -j OPENSHIFT-NOTRACK",
			"-t nat -N OPENSHIFT-MASQUERADE", "-t nat -N OPENSHIFT-MASQUERADE-2",
			"-t nat -A OPENSHIFT-MASQUERADE -m mark --mark 0x1/0x1 -j RETURN", "-t nat -A OPENSHIFT-MASQUERADE -s 10.128.0.0/14 -j OPENSHIFT-MASQUERADE-2",
			"-t nat -A OPENSHIFT-MASQUERADE-2 -d 10.128.0.0/14 -j RETURN", "-t nat -A OPENSHIFT-MASQUERADE-2 -j MASQUERADE",
			"-t nat -I POSTROUTING -m comment --comment rules_for_masquerading_OpenShift_traffic -j OPENSHIFT-MASQUERADE",
			"-t filter -N OPENSHIFT-BLOCK-OUTPUT", "-t filter -A OPENSHIFT-BLOCK-OUTPUT -p tcp --dport 22623 --syn -j REJECT",
			"-t filter -I OUTPUT -j OPENSHIFT-BLOCK-OUTPUT", "-t filter -I FORWARD -j OPENSHIFT-BLOCK-OUTPUT",
			"-t filter -N OPENSHIFT-ADMIN-OUTPUT-RULES", "-t filter -A OPENSHIFT-ADMIN-OUTPUT-RULES -d 203.0.113.7 -j DROP",
			"-t nat -I OPENSHIFT-MASQUERADE -s 10.128.0.0/14 -m mark --mark 0x010003e9 -j SNAT --to-source 192.0.2.9",
			"-t nat -I OPENSHIFT-MASQUERADE -s 10.128.0.0/14 -d 10.128.0.0/14 -m mark --mark 0x010003e9 -j MASQUERADE",
			"-t nat -N KUBE-PORTALS-CONTAINER", "-t nat -I PREROUTING -m comment --comment handle_ClusterIPs;_NOTE:_this_must_be_before_the_NodePort_rules -j KUBE-PORTALS-CONTAINER",
			"-t nat -A KUBE-PORTALS-CONTAINER -d 172.30.0.9 -p tcp --dport 80 -j REDIRECT --to-ports 41234",
			"-t nat -N KUBE-PORTALS-HOST", "-t nat -I OUTPUT -m comment --comment handle_ClusterIPs;_NOTE:_this_must_be_before_the_NodePort_rules -j KUBE-PORTALS-HOST",
			"-t nat -N KUBE-NODEPORT-CONTAINER", "-t nat -A PREROUTING -m addrtype --dst-type LOCAL -j KUBE-NODEPORT-CONTAINER",
			"-t nat -N KUBE-NODEPORT-HOST", "-t nat -A OUTPUT -m addrtype --dst-type LOCAL -j KUBE-NODEPORT-HOST",
			"-t filter -N KUBE-NODEPORT-NON-LOCAL", "-t filter -I INPUT -m comment --comment Ensure_that_non-local_NodePort_traffic_can_flow -j KUBE-NODEPORT-NON-LOCAL",
			"-t nat -N KUBE-SERVICES", "-t nat -I PREROUTING -j KUBE-SERVICES",
			"-t mangle -N OPENSHIFT-SDN-CANARY", "-t nat -N OPENSHIFT-SDN-CANARY", "-t filter -N OPENSHIFT-SDN-CANARY",
		} {
			b.do(t, words)
		}
		for _, when := range []string{"before", "after"} { // the chains are ours
			var has []EgressIP
			var err error
			b.ns.Do(t, func() { has, err = b.rules.Translations(t.Context()) })
			if want := []EgressIP{{Mark: 0x010003e9, IP: netip.MustParseAddr("192.0.2.9")}}; err != nil || !slices.Equal(has, want) {
				t.Errorf("%s: translations are %v, %v, want %v", when, has, err, want)
			}
			b.ensure(t, testConfig())
		}
		got := b.save(t) + b.do(t, "-t mangle -S")
		for part, times := range map[string]int{
			"OPENSHIFT-MASQUERADE-2": 0, "OPENSHIFT-SDN-CANARY": 0, "-j MASQUERADE": 1,
			"-j OPENSHIFT-NOTRACK": 2, "-j OPENSHIFT-BLOCK-OUTPUT": 2, "-d 203.0.113.7": 1,
			"KUBE-PORTALS": 0, "KUBE-NODEPORT": 0, "-j KUBE-SERVICES": 1,
		} {
			if strings.Count(got, part) != times {
				t.Errorf("%q is there %d times, want %d:\n%s", part, strings.Count(got, part), times, got)
			}
		}
		if again := b.ensure(t, testConfig()); len(again) > 0 {
			t.Errorf("a second time: %q", again)
		}
	})
}
