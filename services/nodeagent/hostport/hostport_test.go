package hostport

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
)

func TestRulesAreKubelets(t *testing.T) {
	const want = `-A PREROUTING -d 127.0.0.0/8 -i tun0 -m comment --comment "pods stay off the loopback of their node" -j DROP
-A PREROUTING -m comment --comment "kube hostport portals" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS
-A OUTPUT -m comment --comment "kube hostport portals" -m addrtype --dst-type LOCAL -j KUBE-HOSTPORTS
-A POSTROUTING -s 127.0.0.0/8 -o tun0 -m comment --comment "SNAT for localhost access to hostports" -j MASQUERADE
-A KUBE-HOSTPORTS -p tcp -m comment --comment "red/web hostport 80" -m tcp --dport 80 -j KUBE-HP-
-A KUBE-HOSTPORTS -d 192.0.2.1/32 -p sctp -m comment --comment "red/web hostport 81" -m sctp --dport 81 -j KUBE-HP-
-A KUBE-HP- -s 10.130.0.10/32 -m comment --comment "red/web hostport 80" -j MARK --set-xmark 0x1/0x1
-A KUBE-HP- -p tcp -m comment --comment "red/web hostport 80" -m tcp -j DNAT --to-destination 10.130.0.10:8080
-A KUBE-HP- -p sctp -m comment --comment "red/web hostport 81" -m sctp -j DNAT --to-destination 10.130.0.10:8080`
	eachBackend(t, func(t *testing.T, r *rig) {
		r.ensure(t)
		sctp := mapping("web", webIP, 81, SCTP)
		sctp.HostIP = netip.MustParseAddr(nodeIP)
		r.put(t, "box/eth0", mapping("web", webIP, 80, TCP), sctp)
		var has []string
		for line := range strings.Lines(r.save(t)) {
			words := strings.Fields(line)
			for i, w := range words {
				if strings.HasPrefix(w, prefixPort) {
					words[i] = prefixPort
				}
			}
			has = append(has, strings.Join(words, " "))
		}
		for line := range strings.Lines(want) {
			if !slices.Contains(has, strings.TrimSpace(line)) {
				t.Errorf("no rule %s in\n%s", line, strings.Join(has, "\n"))
			}
		}
	})
}

func TestHostPortIsReachedFromEverySide(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		r.ensure(t)
		r.put(t, "box/eth0", mapping("web", webIP, 80, TCP), mapping("web", webIP, 80, UDP))
		for _, protocol := range []string{"tcp", "udp"} {
			r.wants(t, "outside", r.outside, protocol, "192.0.2.1:80", "web saw 192.0.2.10")
			r.wants(t, "outside, another address of the node", r.outside, protocol, "192.0.2.2:80", "web saw 192.0.2.10")
			r.wants(t, "the node", r.node, protocol, "192.0.2.1:80", "web saw 192.0.2.1")
			r.wants(t, "the node's loopback", r.node, protocol, "127.0.0.1:80", "web saw 10.130.0.1")
			r.wants(t, "another loopback address", r.node, protocol, "127.0.3.4:80", "web saw 10.130.0.1")
			r.wants(t, "a pod", r.api, protocol, "192.0.2.1:80", "web saw "+apiIP)
			r.wants(t, "a pod, at the gateway", r.api, protocol, "10.130.0.1:80", "web saw "+apiIP)
			r.wants(t, "the pod itself", r.web, protocol, "192.0.2.1:80", "web saw 10.130.0.1")
			r.wants(t, "another port", r.outside, protocol, "192.0.2.1:81", "error")
		}
		r.put(t, "box/eth0")
		r.wants(t, "after the pod", r.outside, "tcp", "192.0.2.1:80", "error")
	})
}

func TestHostPortOnOneAddress(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		r.ensure(t)
		loopback, second := mapping("web", webIP, 80, TCP), mapping("api", apiIP, 80, TCP)
		loopback.HostIP, second.HostIP = netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("192.0.2.2")
		r.put(t, "web/eth0", loopback)
		r.put(t, "api/eth0", second)
		r.wants(t, "the loopback", r.node, "tcp", "127.0.0.1:80", "web saw 10.130.0.1")
		r.wants(t, "the second address", r.outside, "tcp", "192.0.2.2:80", "api saw 192.0.2.10")
		r.wants(t, "the first address", r.outside, "tcp", "192.0.2.1:80", "error")
	})
}

func TestPodsDoNotReachTheLoopback(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		r.serve(t, r.node, "node")
		r.ensure(t)
		if got := r.node.Run(t, "sysctl", "-n", "net.ipv4.conf.tun0.route_localnet"); strings.TrimSpace(got) != "1" {
			t.Fatalf("route_localnet is %s", got)
		}
		// The pod leads loopback addresses to its gateway, as only an attacker does.
		r.script(t, r.web, `sysctl -q -w net.ipv4.conf.all.route_localnet=1
			ip address del 127.0.0.1/8 dev lo; ip rule del pref 0; ip rule add pref 10 lookup local
			ip rule add pref 0 to 127.0.0.0/8 lookup 100; ip route add 127.0.0.0/8 via 10.130.0.1 src `+webIP+` table 100`)
		if got := r.ask(t, r.web, "udp", webIP, "127.0.0.1:8080"); !strings.HasPrefix(got, "error") {
			t.Errorf("heard %q", got)
		}
		// It was this rule, and nothing else: its counter says so.
		counters := strings.Split(r.do(t, "-t raw -L PREROUTING 1 -v -x -n"), "\n")
		if fields := strings.Fields(counters[0]); len(fields) == 0 || fields[0] == "0" {
			t.Errorf("the rule has seen no packet: %q", counters)
		}
	})
}

func TestTenantsPortsAreForWhoCanBeTold(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		r.settings.Tenant = func(namespace string) bool { return namespace == "red" }
		r.settings.Nodes = []netip.Addr{netip.MustParseAddr("192.0.2.11")}
		r.ensure(t)
		free := mapping("api", apiIP, 81, TCP)
		free.Namespace = "default"
		r.put(t, "web/eth0", mapping("web", webIP, 80, TCP))
		r.put(t, "api/eth0", free)
		r.wants(t, "a host", r.outside, "tcp", "192.0.2.1:80", "web saw 192.0.2.10")
		r.wants(t, "a pod of this node, which the switch judges", r.api, "tcp", "192.0.2.1:80", "web saw "+apiIP)
		r.wants(t, "the loopback", r.node, "tcp", "127.0.0.1:80", "web saw 10.130.0.1")
		r.wants(t, "the node", r.node, "tcp", "192.0.2.1:80", "web saw 192.0.2.1")
		if got := r.ask(t, r.outside, "tcp", "192.0.2.11", "192.0.2.1:80"); !strings.HasPrefix(got, "error") {
			t.Errorf("from another node: %q", got)
		}
		if got := r.ask(t, r.outside, "tcp", "192.0.2.11", "192.0.2.1:81"); got != "api saw 192.0.2.11" {
			t.Errorf("from another node to a global pod: %q", got)
		}
		// A pod of another node asks at the gateway: its own address comes in by tun0.
		r.script(t, r.api, "ip address add 10.128.0.9/32 dev eth0")
		r.script(t, r.node, "ip route add 10.128.0.9 via "+apiIP)
		if got := r.ask(t, r.api, "tcp", "10.128.0.9", "10.130.0.1:80"); !strings.HasPrefix(got, "error") {
			t.Errorf("from a pod of another node: %q", got)
		}
		r.settings.Tenant = nil
		if repairs := r.ensure(t); len(repairs) != 0 {
			t.Errorf("a change of mode counts as damage: %q", repairs)
		}
		if got := r.ask(t, r.outside, "tcp", "192.0.2.11", "192.0.2.1:80"); got != "web saw 192.0.2.11" {
			t.Errorf("from another node, no tenant any more: %q", got)
		}
	})
}

func TestUDPFlowsFollowThePort(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		r.ensure(t)
		r.put(t, "web/eth0", mapping("web", webIP, 80, UDP))
		var heard []string
		r.outside.Do(t, func() {
			heard = r.flow(t, func(step int) {
				if step == 1 {
					r.put(t, "web/eth0")
					r.put(t, "api/eth0", mapping("api", apiIP, 80, UDP))
				}
			})
		})
		if want := []string{"web saw 192.0.2.10", "api saw 192.0.2.10"}; !slices.Equal(heard, want) {
			t.Errorf("one flow heard %q, want %q", heard, want)
		}
	})
}

func TestOtherPeoplesRulesStay(t *testing.T) {
	eachBackend(t, func(t *testing.T, r *rig) {
		r.do(t, "-t nat -N KUBE-SERVICES")
		r.do(t, "-t nat -A PREROUTING -j KUBE-SERVICES")
		r.do(t, "-t nat -A POSTROUTING -s 127.0.0.0/8 -j MASQUERADE")
		r.ensure(t)
		r.put(t, "web/eth0", mapping("web", webIP, 80, TCP))
		r.put(t, "web/eth0")
		for _, rule := range []string{"-N KUBE-SERVICES", "-A PREROUTING -j KUBE-SERVICES", "-A POSTROUTING -s 127.0.0.0/8 -j MASQUERADE"} {
			if !strings.Contains(r.save(t), rule+"\n") {
				t.Errorf("%s is gone", rule)
			}
		}
	})
}
