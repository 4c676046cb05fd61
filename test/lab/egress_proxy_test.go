package lab

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// Two routers of red are proxies, on node1; whoever asks them is on both nodes. The network's
// DNS server is outside too.
const proxyTopology = `
nodes: [{name: node1}, {name: node2}]
outside: [{name: outside, ip: 192.168.108.200}, {name: other, ip: 192.168.108.201}]
namespaces: [{name: red, egressRouters: [192.168.108.96/28]}, {name: blue}]
pods:
- namespace: red
  name: web
  node: node1
  annotations:
    pod.network.openshift.io/assign-macvlan: "true"
    egress-router.damask/EGRESS_SOURCE: 192.168.108.97/24
    egress-router.damask/EGRESS_GATEWAY: 192.168.108.200
    egress-router.damask/EGRESS_ROUTER_MODE: http-proxy
    egress-router.damask/EGRESS_HTTP_PROXY_DESTINATION: |
      ` + proxyRules + `
- namespace: red
  name: names
  node: node1
  annotations:
    pod.network.openshift.io/assign-macvlan: "true"
    egress-router.damask/EGRESS_SOURCE: 192.168.108.98/24
    egress-router.damask/EGRESS_GATEWAY: 192.168.108.200
    egress-router.damask/EGRESS_ROUTER_MODE: dns-proxy
    egress-router.damask/EGRESS_DNS_PROXY_DESTINATION: ` + proxyPorts + `
- {namespace: red, name: near, node: node1}
- {namespace: red, name: far, node: node2}
- {namespace: blue, name: a, node: node1}
`

const (
	proxyRules = "!192.168.108.201\n      *.example.com\n      192.168.108.200"
	proxyPorts = "80 service.example.com 9000"
)

// relay starts the proxy in a pod as a kubelet does: without any capability, with the
// network's DNS server, and told by the environment what it shall do.
func (c *cluster) relay(pod, variable, text string) {
	c.t.Helper()
	resolv := filepath.Join(c.t.TempDir(), "resolv.conf")
	if err := os.WriteFile(resolv, []byte("nameserver 192.168.108.200\n"), 0o644); err != nil {
		c.t.Fatal(err)
	}
	cmd := c.command(inPod(pod), "unshare", "-m", "sh", "-ec",
		`mount --bind "$1" /etc/resolv.conf; exec setpriv --bounding-set=-all --inh-caps=-all --no-new-privs env EGRESS_ROUTER_LOG=debug "$2" "$3"`,
		"sh", resolv, variable+"="+text, filepath.Join(filepath.Dir(damaskBinary), "damask-egress-router"))
	said, err := cmd.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = cmd.Process.Signal(os.Interrupt)
		_ = cmd.Wait()
	})
	lines := bufio.NewScanner(said)
	var all []string
	for lines.Scan() {
		if all = append(all, lines.Text()); strings.Contains(lines.Text(), "is ready") {
			go func() { // so that it never waits for a reader
				for lines.Scan() {
				}
			}()
			return
		}
	}
	c.t.Fatalf("the proxy of %s did not start:\n%s", pod, strings.Join(all, "\n"))
}

// seen asks by TCP or a proxy, and wants that a host outside answers and whom it sees.
func (c *cluster) seen(t *testing.T, check, server, source string) {
	t.Helper()
	for _, pod := range []string{"red/near", "red/far"} {
		if r := c.check(inPod(pod), check)[0]; !r.OK || r.Server != server || r.Source != source {
			t.Errorf("%s: %+v, want %s to see %s", pod, r, server, source)
		}
	}
}

// TestEgressRoutersThatAreProxiesAreSeenByTheirOwnAddress has pods of both nodes ask services
// outside by proxies that need no privilege.
func TestEgressRoutersThatAreProxiesAreSeenByTheirOwnAddress(t *testing.T) {
	c := up(t, proxyTopology)
	for _, host := range []string{"outside", "other"} {
		c.start(onOutside(host), "serve", "9000", host)
	}
	z := &dnsZone{t: t, file: filepath.Join(t.TempDir(), "zone"), names: map[string][]string{}}
	z.set("service", "service.example.com. 1 A 192.168.108.200")
	z.set("hidden", "hidden.example.com. 1 A 192.168.108.201")
	z.set("foreign", "service.example.org. 1 A 192.168.108.202")
	server := c.start(onOutside("outside"), "zone", "53", z.file)
	c.relay("red/web", "EGRESS_HTTP_PROXY_DESTINATION", proxyRules)
	c.relay("red/names", "EGRESS_DNS_PROXY_DESTINATION", proxyPorts)
	web, names := c.podIP("red/web")+":8080", c.podIP("red/names")+":80"
	by := func(target string) string { return "connect " + web + "/" + target + " 1000" }
	all := func(t *testing.T) {
		t.Helper()
		c.seen(t, by("192.168.108.200:9000"), "outside", "192.168.108.97")
		c.seen(t, by("service.example.com:9000"), "outside", "192.168.108.97")
		c.seen(t, "tcp "+names+" 1000", "outside", "192.168.108.98")
	}
	t.Run("from both nodes", all)
	t.Run("what the rules deny", func(t *testing.T) {
		for _, target := range []string{"192.168.108.201:9000", "hidden.example.com:9000", "service.example.org:9000", c.podIP("red/near") + ":9000", "127.0.0.1:8080"} {
			if r := c.check(inPod("red/far"), by(target))[0]; r.OK || r.Error != "403 Forbidden" {
				t.Errorf("%s: %+v", target, r)
			}
		}
	})
	t.Run("neither another tenant nor the world outside", func(t *testing.T) {
		for at, checks := range map[place][]string{
			inPod("blue/a"):      {by("192.168.108.200:9000"), "tcp " + names + " 10"},
			onOutside("other"):   {"connect 192.168.108.97:8080/192.168.108.200:9000 10", "tcp 192.168.108.98:80 10"},
			onOutside("outside"): {by("192.168.108.200:9000"), "tcp " + names + " 10"},
		} {
			for _, r := range c.check(at, checks...) {
				if r.OK {
					t.Errorf("%s: %+v", at, r)
				}
			}
		}
	})
	t.Run("while the agent is away, and after", func(t *testing.T) {
		c.run("lab", "kill", "--name", c.name, "node1", "nodeagent")
		all(t)
		c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
		c.ctl("audit", "node1")
		all(t)
	})
	t.Run("a name that moves, and a server that goes", func(t *testing.T) {
		z.set("service", "service.example.com. 1 A 192.168.108.201")
		began := time.Now()
		c.eventually(t, "the other host answers", func() bool { return c.check(inPod("red/near"), "tcp "+names+" 10")[0].Server == "other" })
		t.Logf("followed after %v", time.Since(began).Round(time.Millisecond))
		z.end(server)
		c.seen(t, "tcp "+names+" 1000", "other", "192.168.108.98")
	})
}
