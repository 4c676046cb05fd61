package lab

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// policiesTopology has two namespaces with two pods each, on two nodes. Each web
// calls another port "http". On a third node nothing of x is.
const policiesTopology = `
mode: networkpolicy
nodes: [{name: node1}, {name: node2}, {name: node3}]
namespaces: [{name: x, labels: {team: a}}, {name: y}]
pods:
- {namespace: x, name: web, node: node1, labels: {app: web}, ports: [{name: http, containerPort: 8080}]}
- {namespace: x, name: client, node: node2, labels: {app: client}}
- {namespace: y, name: web, node: node2, labels: {app: web}, ports: [{name: http, containerPort: 8081}]}
- {namespace: y, name: client, node: node1, labels: {app: client}}
- {namespace: y, name: far, node: node3, labels: {app: client}}
networkPolicies:
- {apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x, name: first}, spec: {podSelector: {}}}
`

var (
	policyPods  = []string{"x/web", "x/client", "y/web", "y/client"}
	policyPorts = []string{"8080", "8081"}
)

// policyCase is policies of namespace x by their specs, and what they let pass
// to the pods of x and from them.
type policyCase struct {
	name  string
	specs []string
	// pass judges connections from one pod to another at a port.
	pass func(from, to, port string) bool
}

func inX(pod string) bool { return strings.HasPrefix(pod, "x/") }

func policyCases() []policyCase {
	toX := func(pass func(from, to, port string) bool) func(from, to, port string) bool {
		return func(from, to, port string) bool { return !inX(to) || pass(from, to, port) }
	}
	return []policyCase{
		{"an ingress policy without rules closes", []string{`{podSelector: {}}`}, toX(func(_, _, _ string) bool { return false })},
		{"a rule without anything opens all", []string{`{podSelector: {}, ingress: [{}]}`}, toX(func(_, _, _ string) bool { return true })},
		{"a pod selector alone means this namespace", []string{`{podSelector: {}, ingress: [{from: [{podSelector: {}}]}]}`},
			toX(func(from, _, _ string) bool { return inX(from) })},
		{"a namespace by its name, which is there by itself", []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: y}}}]}]}`},
			toX(func(from, _, _ string) bool { return !inX(from) })},
		{"both selectors in one peer must hold", []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {}, podSelector: {matchLabels: {app: client}}}]}]}`},
			toX(func(from, _, _ string) bool { return strings.HasSuffix(from, "client") })},
		{"two selectors in two peers add up", []string{`{podSelector: {}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: a}}}, {podSelector: {matchLabels: {app: none}}}]}]}`},
			toX(func(from, _, _ string) bool { return inX(from) })},
		{"a number of a port", []string{`{podSelector: {}, ingress: [{ports: [{port: 8081}]}]}`}, toX(func(_, _, port string) bool { return port == "8081" })},
		{"a range of ports", []string{`{podSelector: {}, ingress: [{ports: [{port: 8000, endPort: 8080}]}]}`}, toX(func(_, _, port string) bool { return port == "8080" })},
		{"a named port is what the target calls so", []string{`{podSelector: {}, ingress: [{ports: [{port: http}]}]}`},
			toX(func(_, to, port string) bool { return to == "x/web" && port == "8080" })},
		{"the ports of another protocol", []string{`{podSelector: {}, ingress: [{ports: [{protocol: UDP}]}]}`}, toX(func(_, _, _ string) bool { return false })},
		{"policies add up", []string{`{podSelector: {}}`, `{podSelector: {matchLabels: {app: web}}, ingress: [{ports: [{port: 8080}]}]}`},
			toX(func(_, to, port string) bool { return to == "x/web" && port == "8080" })},
		{"egress alone closes nothing that comes in", []string{`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{podSelector: {}}]}]}`},
			func(from, to, _ string) bool { return !inX(from) || inX(to) }},
		{"a named port of egress is each destination's own", []string{`{podSelector: {}, policyTypes: [Egress], egress: [{ports: [{port: http}]}]}`},
			func(from, to, port string) bool {
				return !inX(from) || to == "x/web" && port == "8080" || to == "y/web" && port == "8081"
			}},
		{"blocks with parts left out", []string{`{podSelector: {}, policyTypes: [Egress], egress: [{to: [{ipBlock: {cidr: 10.128.0.0/14, except: [%s/32]}}]}]}`},
			func(from, to, _ string) bool { return !inX(from) || to != "y/web" }},
	}
}

// TestPoliciesLetPassWhatTheySay asks with packets, and the explanation of each
// connection too.
func TestPoliciesLetPassWhatTheySay(t *testing.T) {
	c := up(t, policiesTopology)
	for _, pod := range policyPods {
		for _, port := range policyPorts {
			c.start(inPod(pod), "serve", port, pod)
		}
	}
	c.ctl("policy", "delete", "x/first")
	for _, test := range policyCases() {
		t.Run(test.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "policies.yaml")
			var text strings.Builder
			for i, spec := range test.specs {
				if strings.Contains(spec, "%s") {
					spec = fmt.Sprintf(spec, c.podIP("y/web"))
				}
				fmt.Fprintf(&text, "---\napiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: p%d}\nspec: %s\n", i, spec)
			}
			if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			c.ctl("policy", "apply", "-f", file)
			c.wantPass(t, test.pass)
			c.ctl("policy", "delete", "-f", file)
		})
	}
	t.Run("without policies everything passes", func(t *testing.T) { c.wantPass(t, func(_, _, _ string) bool { return true }) })
	t.Run("labels change what is selected", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "policy.yaml")
		spec := `{podSelector: {matchLabels: {app: web}}, ingress: [{from: [{namespaceSelector: {matchLabels: {team: b}}}]}]}`
		text := "apiVersion: networking.k8s.io/v1\nkind: NetworkPolicy\nmetadata: {namespace: x, name: p}\nspec: " + spec
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		c.ctl("policy", "apply", "-f", file)
		c.wantPass(t, func(_, to, _ string) bool { return to != "x/web" })
		c.ctl("label", "namespace", "y", "team=b")
		c.wantPass(t, func(from, to, _ string) bool { return to != "x/web" || !inX(from) })
		c.ctl("label", "pod", "x/client", "app=web")
		c.wantPass(t, func(from, to, _ string) bool { return !inX(to) || !inX(from) })
		if out := c.ctl("get", "networkpolicies", "x/p"); !strings.Contains(out, "2/2") {
			t.Errorf("two nodes have pods of the policy: %s", out)
		}
	})
	t.Run("a node has flows of the policies of its pods and of no others", func(t *testing.T) {
		for node, has := range map[string]bool{"node1": true, "node2": true, "node3": false} {
			if flows := c.policyFlows(node); strings.Contains(flows, "NetworkPolicy x/p") != has || !has && flows != "" {
				t.Errorf("%s has flows of the policy of x: want %t; its policies' are\n%s", node, has, flows)
			}
		}
		c.run("lab", "pod", "add", "--name", c.name, "x/guest", "--node", "node3", "--label", "app=web")
		if flows := c.policyFlows("node3"); !strings.Contains(flows, "NetworkPolicy x/p") || !strings.Contains(flows, "isolation x/guest") {
			t.Errorf("with a pod of x, node3's policies have the flows\n%s", flows)
		}
		c.run("lab", "pod", "delete", "--name", c.name, "x/guest")
		c.eventually(t, "node3 has no flows of policies again", func() bool { return c.policyFlows("node3") == "" })
	})
}

// policyFlows are the flows of a node that it has for policies, each below its owner; not
// those that it has without any.
func (c *cluster) policyFlows(node string) string {
	c.t.Helper()
	var all strings.Builder
	owned := false
	for line := range strings.Lines(c.ctl("flows", node)) {
		if owner, is := strings.CutPrefix(strings.TrimSpace(line), "# "); is {
			owned = strings.HasPrefix(owner, "NetworkPolicy ") || strings.HasPrefix(owner, "policy ") && !strings.HasPrefix(owner, "policy base")
		}
		if owned {
			all.WriteString(line)
		}
	}
	return all.String()
}

// wantPass tries every connection between the pods, and compares with what is
// to pass and with what the explanation says.
func (c *cluster) wantPass(t *testing.T, pass func(from, to, port string) bool) {
	t.Helper()
	var all sync.WaitGroup
	for _, from := range policyPods {
		var lines, asked []string
		var want []bool
		for _, to := range policyPods {
			for _, port := range policyPorts {
				if to == from {
					continue // A pod's own connections never leave it.
				}
				lines = append(lines, "tcp "+c.podIP(to)+":"+port+" 10")
				want, asked = append(want, pass(from, to, port)), append(asked, to+" "+port)
			}
		}
		all.Go(func() {
			cmd := c.command(inPod(from), probeBinary, "check")
			cmd.Stdin = strings.NewReader(strings.Join(lines, "\n"))
			out, err := cmd.Output()
			var results []checkResult
			if err == nil {
				err = json.Unmarshal(out, &results)
			}
			if err != nil || len(results) != len(want) {
				t.Errorf("%s: probe check answered %q: %v", from, out, err)
				return
			}
			for i, r := range results {
				if r.OK != want[i] {
					t.Errorf("%s to %s: passes is %v, want %v (%s)", from, asked[i], r.OK, want[i], r.Error)
				}
			}
		})
		if !userspace() {
			continue // what explains is the same, and each question is a process
		}
		all.Go(func() {
			for i, a := range asked {
				to, port, _ := strings.Cut(a, " ")
				out, err := exec.Command(damaskBinary, "policy", "explain", "--lab", c.name, from, to, port).CombinedOutput()
				if says := strings.HasPrefix(string(out), "allowed"); err != nil || says != want[i] {
					t.Errorf("%s to %s is explained as %q (%v), want allowed to be %v", from, a, out, err, want[i])
				}
			}
		})
	}
	all.Wait()
}
