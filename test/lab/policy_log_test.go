package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Who may enter x/web is a NetworkPolicy's word; nobody with the label team=out may
// enter anything, an administrator's.
const policyLogTopology = `
mode: networkpolicy
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: x}, {name: y}, {name: z, labels: {team: out}}]
pods:
- {namespace: x, name: web, node: node1, labels: {app: web}}
- {namespace: y, name: client, node: node2, labels: {app: client}}
- {namespace: y, name: other, node: node1}
- {namespace: z, name: client, node: node2, labels: {app: client}}
networkPolicies:
- apiVersion: networking.k8s.io/v1
  kind: NetworkPolicy
  metadata: {namespace: x, name: web}
  spec: {podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: client}}}], ports: [{port: 8080}]}]}
- apiVersion: policy.networking.k8s.io/v1alpha1
  kind: AdminNetworkPolicy
  metadata: {name: out}
  spec: {priority: 10, subject: {namespaces: {}}, ingress: [{action: Deny, from: [{namespaces: {matchLabels: {team: out}}}]}]}
`

// decisions are the lines of the policy log of a node, without their time.
func (c *cluster) decisions(t *testing.T, node string) []string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/var/lib/damask-lab", c.name, "logs", node+".nodeagent.log"))
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(text)) {
		if _, said, is := strings.Cut(line, "policylog: policy decision: "); is {
			lines = append(lines, strings.TrimSpace(said))
		}
	}
	return lines
}

func TestDecisionsOfPoliciesAreLoggedForThoseWhoAsk(t *testing.T) {
	c := up(t, policyLogTopology)
	for _, pod := range []string{"x/web", "y/other"} {
		c.start(inPod(pod), "serve", port, pod)
	}
	web, other := c.podIP("x/web"), c.podIP("y/other")
	to := func(addr, port string) string { return "tcp " + addr + ":" + port + " 100" }
	talk := func() {
		t.Helper()
		c.wantWays(t, map[way]bool{
			{"y/client", to(web, "8080")}: true, {"y/client", to(web, "8081")}: false, {"y/other", to(web, "8080")}: false,
			{"z/client", to(web, "8080")}: false, {"z/client", to(other, "8080")}: false,
		})
	}
	before := c.flowLines("node1")
	talk()
	if lines := c.decisions(t, "node1"); len(lines) != 0 {
		t.Fatalf("nobody has asked, and the log says\n%s", strings.Join(lines, "\n"))
	}
	line := func(verdict, policy, rule, src, port string) string {
		return "verdict=" + verdict + " direction=ingress pod=x/web policy=" + policy + " rule=" + rule + " src=" + src + " dst=" + web + " protocol=TCP src_port=* port=" + port
	}
	allow := line("allow", `"NetworkPolicy x/web"`, "0", c.podIP("y/client"), "8080")
	denials := []string{
		line("deny", "isolation", "none", c.podIP("y/client"), "8081"), line("deny", "isolation", "none", other, "8080"),
		line("deny", `"AdminNetworkPolicy out"`, "0", c.podIP("z/client"), "8080"),
	}
	want := func(what string, from int, lines ...string) int {
		t.Helper()
		var got []string
		slices.Sort(lines)
		c.soon(func() bool {
			got = nil
			for _, said := range c.decisions(t, "node1")[from:] {
				head, tail, _ := strings.Cut(said, "src_port=")
				_, tail, _ = strings.Cut(tail, " ")
				got = append(got, head+"src_port=* "+tail)
			}
			slices.Sort(got)
			got = slices.Compact(got) // A SYN that is denied is repeated.
			return slices.Equal(got, lines)
		})
		if !slices.Equal(got, lines) {
			t.Errorf("%s: the log says\n%s\nwant\n%s", what, strings.Join(got, "\n"), strings.Join(lines, "\n"))
		}
		return len(c.decisions(t, "node1"))
	}
	c.ctl("policy", "log", "x", "--denied")
	talk()
	n := want("denied", 0, slices.Clone(denials)...)
	c.ctl("policy", "log", "x", "--allowed")
	talk()
	n = want("allowed", n, allow)
	c.ctl("policy", "log", "x", "--denied", "--allowed")
	if out := c.ctl("get", "netnamespaces", "-o", "wide"); !strings.Contains(out, "denied,allowed") {
		t.Errorf("it is shown as\n%s", out)
	}
	c.run("lab", "kill", "--name", c.name, "node1", "nodeagent", "--signal", "KILL")
	during := c.flowLines("node1")
	c.run("lab", "start", "--name", c.name, "node1", "nodeagent")
	c.eventually(t, "the agent is ready", func() bool { return strings.Contains(c.ctl("get", "nodes"), "node1") })
	c.ctl("audit", "node1")
	if after := c.flowLines("node1"); !slices.Equal(during, after) {
		t.Errorf("a restarted agent has changed flows; they were\n%s\nand are\n%s", strings.Join(during, "\n"), strings.Join(after, "\n"))
	}
	talk()
	n = want("both, after a restart of the agent", n, append(slices.Clone(denials), allow)...)
	c.ctl("policy", "log", "x", "--off")
	if after := c.flowLines("node1"); !slices.Equal(before, after) {
		t.Errorf("without a log the flows were\n%s\nand are\n%s", strings.Join(before, "\n"), strings.Join(after, "\n"))
	}
	talk()
	if lines := c.decisions(t, "node1")[n:]; len(lines) != 0 {
		t.Errorf("nobody asks any more, and the log says\n%s", strings.Join(lines, "\n"))
	}
	if lines := c.decisions(t, "node2"); len(lines) != 0 {
		t.Errorf("node2 has no pod of x, and says\n%s", strings.Join(lines, "\n"))
	}
}
