package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// kindsTopology has a pod that policies are about, and who may want something of it.
const kindsTopology = `
mode: networkpolicy
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: x, labels: {team: a}}, {name: y, labels: {team: b}}]
outside: [{name: outside, ip: 192.168.108.1}, {name: partner, ip: 192.168.108.2}]
pods:
- {namespace: x, name: web, node: node1, labels: {app: web}, ports: [{name: http, containerPort: 8080}, {name: http, containerPort: 8081, protocol: UDP}]}
- {namespace: x, name: client, node: node2, labels: {app: client}}
- {namespace: y, name: client, node: node1, labels: {app: client}}
- {namespace: default, name: client, node: node2, labels: {app: client}}
`

// The policies of the rows, in one line each.
const (
	onlyFrom  = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x, name: p}, spec: {podSelector: {matchLabels: {app: web}}, ingress: [%s]}}`
	onlyTo    = `{apiVersion: networking.k8s.io/v1, kind: NetworkPolicy, metadata: {namespace: x, name: p}, spec: {podSelector: {matchLabels: {app: web}}, policyTypes: [Egress], egress: [%s]}}`
	adminFrom = `{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: a}, spec: {priority: 10, subject: {namespaces: {matchLabels: {team: a}}}, ingress: [%s]}}`
	adminTo   = `{apiVersion: policy.networking.k8s.io/v1alpha1, kind: AdminNetworkPolicy, metadata: {name: a}, spec: {priority: 10, subject: {namespaces: {matchLabels: {team: a}}}, egress: [%s]}}`
	baseFrom  = `{apiVersion: policy.networking.k8s.io/v1alpha1, kind: BaselineAdminNetworkPolicy, metadata: {name: default}, spec: {subject: {namespaces: {matchLabels: {team: a}}}, ingress: [%s]}}`
	tierFrom  = `{apiVersion: policy.networking.k8s.io/v1alpha2, kind: ClusterNetworkPolicy, metadata: {name: c}, spec: {tier: %s, priority: 10, subject: {namespaces: {matchLabels: {team: a}}}, ingress: [%s]}}`
	ofY       = `from: [{namespaces: {matchLabels: {team: b}}}]`
)

// kindRow is policies, and who reaches x/web then, and whom x/web reaches: of "x/client",
// "y/client", "default/client", "outside", "partner", "node1" and "node2", each with the
// protocol and port that it is asked by.
type kindRow struct {
	name     string
	policies []string
	in, out  string
}

func kindRows() []kindRow {
	f := fmt.Sprintf
	// The node of the pod is not asked: it is there in each row.
	const all = "x/client y/client default/client outside partner node1 node2"
	only := func(ports string, names string) string {
		var want []string
		for _, name := range strings.Fields(names) {
			for _, p := range strings.Fields(ports) {
				want = append(want, name+" "+p)
			}
		}
		return strings.Join(want, ", ")
	}
	const every = "tcp:8080 tcp:8081 udp:8080 udp:8081"
	node := only(every, "node1")
	with := func(want string) string { return node + ", " + want }
	return []kindRow{
		{"no policies", nil, only(every, all), only(every, all)},
		{"a closed pod, and its own node", []string{f(onlyFrom, "")}, node, only(every, all)},
		{"ports of UDP", []string{f(onlyFrom, "{ports: [{protocol: UDP, port: 8080}]}")}, with(only("udp:8080", "x/client y/client default/client outside partner node2")), only(every, all)},
		{"a name that means another port for each protocol", []string{f(onlyFrom, "{ports: [{port: http}, {port: http, protocol: UDP}]}")},
			with(only("tcp:8080 udp:8081", "x/client y/client default/client outside partner node2")), only(every, all)},
		{"a range of UDP from one namespace", []string{f(onlyFrom, "{from: [{namespaceSelector: {matchLabels: {team: b}}}], ports: [{protocol: UDP, port: 8080, endPort: 8081}]}")},
			with(only("udp:8080 udp:8081", "y/client")), only(every, all)},
		{"a host outside as client", []string{f(onlyFrom, "{from: [{ipBlock: {cidr: 192.168.108.1/32}}]}")}, with(only(every, "outside")), only(every, all)},
		{"hosts outside as clients but one", []string{f(onlyFrom, "{from: [{ipBlock: {cidr: 192.168.108.0/30, except: [192.168.108.1/32]}}]}")}, with(only(every, "partner")), only(every, all)},
		{"a host outside as destination", []string{f(onlyTo, "{to: [{ipBlock: {cidr: 192.168.108.2/32}}], ports: [{protocol: UDP}]}")}, only(every, all), only("udp:8080 udp:8081", "partner")},
		{"everything as destination but a host outside", []string{f(onlyTo, "{to: [{ipBlock: {cidr: 0.0.0.0/0, except: [192.168.108.1/32]}}]}")}, only(every, all),
			only(every, "x/client y/client default/client partner node1 node2")},
		{"an empty namespaceSelector is pods, not the world", []string{f(onlyFrom, "{from: [{namespaceSelector: {}}]}")}, with(only(every, "x/client y/client default/client")), only(every, all)},
		{"an empty namespaceSelector as destination", []string{f(onlyTo, "{to: [{namespaceSelector: {}}]}")}, only(every, all), only(every, "x/client y/client default/client")},
		{"namespace default is its pods, and not what VNID 0 is besides", []string{f(onlyFrom, "{from: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}]}")},
			with(only(every, "default/client")), only(every, all)},
		{"namespace default as destination", []string{f(onlyTo, "{to: [{namespaceSelector: {matchLabels: {kubernetes.io/metadata.name: default}}}]}")}, only(every, all), only(every, "default/client")},
		{"AdminNetworkPolicy: Deny is before what a NetworkPolicy allows", []string{f(onlyFrom, "{}"), f(adminFrom, "{action: Deny, "+ofY+"}")},
			with(only(every, "x/client default/client outside partner node2")), only(every, all)},
		{"AdminNetworkPolicy: Allow is before what a NetworkPolicy forbids", []string{f(onlyFrom, ""), f(adminFrom, "{action: Allow, "+ofY+"}")}, with(only(every, "y/client")), only(every, all)},
		{"AdminNetworkPolicy: Pass asks the NetworkPolicies", []string{f(onlyFrom, "{from: [{podSelector: {}}]}"), f(adminFrom, "{action: Pass, "+ofY+"}, {action: Allow, "+ofY+"}")},
			with(only(every, "x/client")), only(every, all)},
		{"AdminNetworkPolicy: a port of UDP outside", []string{f(adminTo, "{action: Deny, to: [{networks: [192.168.108.1/32]}], ports: [{portNumber: {protocol: UDP, port: 8080}}]}")}, only(every, all),
			only(every, "x/client y/client default/client partner node1 node2") + ", " + only("tcp:8080 tcp:8081 udp:8081", "outside")},
		{"BaselineAdminNetworkPolicy: Deny where no NetworkPolicy is", []string{f(baseFrom, "{action: Deny, "+ofY+"}")}, with(only(every, "x/client default/client outside partner node2")), only(every, all)},
		{"BaselineAdminNetworkPolicy: a NetworkPolicy is before it", []string{f(baseFrom, "{action: Deny, "+ofY+"}"), f(onlyFrom, "{}")}, only(every, all), only(every, all)},
		{"BaselineAdminNetworkPolicy: Pass of an administrator asks it", []string{f(adminFrom, "{action: Pass, "+ofY+"}"), f(baseFrom, "{action: Deny, "+ofY+"}")},
			with(only(every, "x/client default/client outside partner node2")), only(every, all)},
		{"BaselineAdminNetworkPolicy: Allow before Deny", []string{f(baseFrom, "{action: Allow, "+ofY+", ports: [{portNumber: {port: 8080}}]}, {action: Deny, "+ofY+"}")},
			with(only(every, "x/client default/client outside partner node2") + ", " + only("tcp:8080", "y/client")), only(every, all)},
		{"ClusterNetworkPolicy: Deny of the Admin tier", []string{f(onlyFrom, "{}"), f(tierFrom, "Admin", "{action: Deny, "+ofY+", protocols: [{udp: {destinationPort: {range: {start: 8080, end: 8081}}}}]}")},
			with(only(every, "x/client default/client outside partner node2") + ", " + only("tcp:8080 tcp:8081", "y/client")), only(every, all)},
		{"ClusterNetworkPolicy: Accept of the Admin tier", []string{f(onlyFrom, ""), f(tierFrom, "Admin", "{action: Accept, "+ofY+"}")}, with(only(every, "y/client")), only(every, all)},
		{"ClusterNetworkPolicy: Pass of the Admin tier", []string{f(onlyFrom, ""), f(tierFrom, "Admin", "{action: Pass, "+ofY+"}, {action: Accept, "+ofY+"}")}, node, only(every, all)},
		{"ClusterNetworkPolicy: Deny of the Baseline tier", []string{f(tierFrom, "Baseline", "{action: Deny, "+ofY+"}")}, with(only(every, "x/client default/client outside partner node2")), only(every, all)},
		{"ClusterNetworkPolicy: a name of a port", []string{f(tierFrom, "Admin", "{action: Deny, "+ofY+", protocols: [{destinationNamedPort: http}]}")},
			with(only(every, "x/client default/client outside partner node2") + ", " + only("tcp:8081 udp:8080", "y/client")), only(every, all)},
	}
}

// TestPoliciesOfEveryKindByPackets asks from and to one pod by two protocols and ports.
func TestPoliciesOfEveryKindByPackets(t *testing.T) {
	c := up(t, kindsTopology)
	web := c.reside(inPod("x/web"), "x/web", c.podIP("x/web"))
	var others []*resident
	for _, name := range []string{"x/client", "y/client", "default/client"} {
		others = append(others, c.reside(inPod(name), name, c.podIP(name)))
	}
	for _, name := range []string{"outside", "partner"} {
		others = append(others, c.reside(onOutside(name), name, c.outsideIP(name)))
	}
	for _, name := range []string{"node1", "node2"} {
		others = append(others, c.reside(onNode(name), name, c.nodeIP(name)))
	}
	for _, row := range kindRows() {
		t.Run(row.name, func(t *testing.T) {
			if row.policies != nil {
				file := filepath.Join(t.TempDir(), "policies.yaml")
				if err := os.WriteFile(file, []byte("---\n"+strings.Join(row.policies, "\n---\n")+"\n"), 0o600); err != nil {
					t.Fatal(err)
				}
				c.ctl("policy", "apply", "-f", file)
				defer c.ctl("policy", "delete", "-f", file)
			}
			c.exec(onNode("node1"), "sh", "-c", "ovs-appctl revalidator/wait && ovs-appctl revalidator/wait")
			wantReached(t, web, others, row)
		})
	}
}

// wantReached has all ask x/web, and x/web all, at once.
func wantReached(t *testing.T, web *resident, others []*resident, row kindRow) {
	t.Helper()
	out := &asking{from: web}
	all := []*asking{out}
	for _, other := range others {
		in := &asking{from: other}
		in.add(web, other.name, row.in)
		out.add(other, other.name, row.out)
		all = append(all, in)
	}
	var working sync.WaitGroup
	for _, a := range all {
		working.Go(func() {
			got, _ := a.ask(t)
			for i, want := range a.names {
				if got[i] != want {
					t.Errorf("%s to %s by %s %s: answered by %q, want %q", a.from.name, a.to[i].name, a.pairs[2*i], a.pairs[2*i+1], got[i], want)
				}
			}
		})
	}
	working.Wait()
}

// add adds the questions to one, by each protocol and port; want lists those that are to
// be answered, by the name of who is not x/web.
func (a *asking) add(to *resident, name, want string) {
	answered := strings.Split(want, ", ")
	for _, p := range []string{"tcp:8080", "tcp:8081", "udp:8080", "udp:8081"} {
		protocol, port, _ := strings.Cut(p, ":")
		expected := ""
		if slices.Contains(answered, name+" "+p) {
			expected = to.name
		}
		a.pairs, a.to, a.names = append(a.pairs, protocol, to.ip+":"+port), append(a.to, to), append(a.names, expected)
	}
}
