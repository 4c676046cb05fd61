package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// wantItsOwnUnderAnyVNID gives a namespace the VNID of another, and then one that is new. Its
// pods must go on leaving by its own address, and not by those of the other.
func (c *cluster) wantItsOwnUnderAnyVNID(t *testing.T) {
	end := c.witness()
	at := outsideIP + ":" + leavePort
	for _, change := range [][]string{{"join-projects", "--to", "green", "red"}, {"isolate-projects", "red"}} {
		before := c.vnids()["red"]
		c.ctl(append([]string{"pod-network"}, change...)...)
		if after := c.vnids(); after["red"] == before || (after["red"] == after["green"]) != (change[0] == "join-projects") {
			t.Fatalf("%v: red had VNID %d, and now there are %v", change, before, after)
		}
		for _, pod := range []string{"red/far", "red/near"} {
			wantAll(t, inPod(pod), c.check(inPod(pod), "tcp "+at+" 4000", "udp "+at+" 1000", "icmp "+outsideIP+" 56"))
		}
	}
	seen := end(t)
	for _, kind := range []string{"tcp " + leavePort, "udp " + leavePort, "icmp 0"} {
		seen.wantOnly(t, kind, "192.168.108.200")
	}
}

// nobodyComesIn closes all pods of two namespaces to whoever opens a connection.
const nobodyComesIn = `
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: red, name: nobody}, spec: {podSelector: {}, policyTypes: [Ingress]}}
---
{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: green, name: nobody}, spec: {podSelector: {}, policyTypes: [Ingress]}}
`

// wantAnswersPastPolicies closes pods to everybody, in each mode in which policies decide. They
// must hear the answers to what they ask by their egress IPs, wherever these are hosted.
func (c *cluster) wantAnswersPastPolicies(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policies.yaml")
	if err := os.WriteFile(file, []byte(nobodyComesIn), 0o600); err != nil {
		t.Fatal(err)
	}
	c.ctl("policy", "apply", "-f", file)
	at := outsideIP + ":" + leavePort
	for _, mode := range []string{"networkpolicy", "combined"} {
		c.ctl("mode", "set", mode)
		if c.check(inPod("red/far"), "tcp "+c.podIP("red/near")+":7002 10")[0].OK {
			t.Fatalf("in mode %s a pod that is closed was reached", mode)
		}
		for pod, from := range map[string][]string{
			"red/near": {"192.168.108.200"}, "red/far": {"192.168.108.200"}, "green/near": {"192.168.108.210", "192.168.108.211"},
		} {
			wantAll(t, inPod(pod), c.check(inPod(pod), "icmp "+outsideIP+" 56"))
			both(func(protocol string) {
				seen := c.load(t, inPod(pod), protocol, at, enough)
				if len(seen.Errors) > 0 {
					t.Errorf("%s, by %s in mode %s: %v", pod, protocol, mode, seen.Errors)
				}
				for who := range seen.Answers {
					if source := strings.TrimPrefix(who, "outside "); !slices.Contains(from, source) {
						t.Errorf("%s, by %s in mode %s: seen as %s, want one of %v", pod, protocol, mode, source, from)
					}
				}
			})
		}
	}
}

// wantInsideUntouched has pods of one tenant that are in different cluster networks ask one
// another: by the pod's own address, a service's, and one that is outside but for the nodes. It
// also asks the DNS port of the pod's node. Nobody must see the egress IP, another tenant is not
// answered, and the outside sees nothing.
func (c *cluster) wantInsideUntouched(t *testing.T) {
	end := c.witness()
	c.start(onNode("node3"), "serve", "53", "node3")
	for _, r := range c.check(inPod("red/far"), "tcp "+c.nodeIP("node3")+":53 10", "udp "+c.nodeIP("node3")+":53 10") {
		if !r.OK || r.Source == "192.168.108.200" {
			t.Errorf("%s: the node's DNS saw %q (%s)", r.Check, r.Source, r.Error)
		}
	}
	// An address outside is asked at the node that has the egress IP. If that is not the
	// pod's own, it answers for the service as for any that come from elsewhere.
	host := c.hostOf("192.168.108.200")
	for _, way := range []struct{ service, backend, node, client, clientNode, external string }{
		{"red/web", "red/far", "node3", "red/near", "node1", "203.0.113.7"},
		{"red/back", "red/near", "node1", "red/far", "node3", "203.0.113.8"},
	} {
		seen := c.podIP(way.client)
		if way.clientNode != host {
			seen = c.gateway(host)
		}
		c.start(inPod(way.backend), "serve", "7002", way.backend)
		c.ctl("service", "create", way.service, "--port", "tcp=80:7002", "--port", "udp=80:7002/udp", "--external-ip", way.external)
		c.apply(t, slice(way.service, 7002, atNode(c.podIP(way.backend), way.node)))
		want := map[string]string{c.podIP(way.backend) + ":7002": c.podIP(way.client), way.external + ":80": seen}
		for _, s := range c.services() {
			if s.Namespace+"/"+s.Name == way.service {
				want[s.ClusterIPs[0].String()+":80"] = c.podIP(way.client)
			}
		}
		for at, source := range want {
			for _, r := range c.check(inPod(way.client), "tcp "+at+" 10", "udp "+at+" 10") {
				if r.Source != source {
					t.Errorf("%s, %s: %s saw %q, want %s (%s)", way.client, r.Check, way.backend, r.Source, source, r.Error)
				}
			}
		}
	}
	wantNone(t, c.check(inPod("blue/a"), "tcp 203.0.113.7:80 10", "udp 203.0.113.7:80 10", "tcp 203.0.113.8:80 10", "udp 203.0.113.8:80 10"))
	for kind, spans := range end(t).Arrived {
		if strings.HasSuffix(kind, " 80") || strings.HasSuffix(kind, " 7002") {
			t.Errorf("packets for %s came out: %+v", kind, spans)
		}
	}
}
