package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// policyMulticastTopology has two pods on each of two nodes that send and receive
// multicast. Of each two, policies will be about the second.
const policyMulticastTopology = `
mode: networkpolicy
nodes: [{name: node1}, {name: node2}]
namespaces: [{name: red, multicast: true}]
pods:
- {namespace: red, name: a, node: node1, labels: {app: a}}
- {namespace: red, name: b, node: node1, labels: {app: b}}
- {namespace: red, name: c, node: node2, labels: {app: c}}
- {namespace: red, name: d, node: node2, labels: {app: d}}
`

// TestPoliciesJudgeMulticastAtTheSenderAlone: who may enter a pod is no question of
// multicast, what a pod may send is one.
func TestPoliciesJudgeMulticastAtTheSenderAlone(t *testing.T) {
	c := up(t, policyMulticastTopology)
	const (
		deaf   = `{podSelector: {matchExpressions: [{key: app, operator: In, values: [b, d]}]}}`
		silent = `{podSelector: {matchLabels: {app: b}}, policyTypes: [Egress], egress: [%s]}`
		toCast = `{to: [{ipBlock: {cidr: 239.1.2.0/24}}], ports: [{protocol: UDP, port: 9100}]}`
	)
	all, others := []string{"red/a", "red/b", "red/c", "red/d"}, []string{"red/a", "red/c", "red/d"}
	for _, s := range []struct {
		name, policy, spec string
		senders            []string // Whom everybody hears.
	}{
		{"pods that nothing may enter", "deaf", deaf, all},
		{"a pod that may send nothing", "silent", fmt.Sprintf(silent, ""), others},
		{"a pod that may send to the group", "silent", fmt.Sprintf(silent, toCast), all},
	} {
		t.Run(s.name, func(t *testing.T) {
			c.storePolicy(t, "red", s.policy, s.spec)
			c.wantCastOf(t, all, s.senders)
		})
	}
	wantNone(t, c.check(inPod("red/a"), "icmp "+c.podIP("red/b")+" 56", "icmp "+c.podIP("red/d")+" 56"))
}

// wantCastOf has every pod send once while all listen. Each hears the senders, and itself
// by its own kernel.
func (c *cluster) wantCastOf(t *testing.T, pods, senders []string) {
	t.Helper()
	ears := map[string]*background{}
	for _, pod := range pods {
		ears[pod] = c.start(inPod(pod), "join", castGroup)
	}
	for _, node := range []string{"node1", "node2"} {
		c.exec(onNode(node), "sh", "-c", "ovs-appctl revalidator/wait && ovs-appctl revalidator/wait")
	}
	for _, pod := range pods {
		c.exec(inPod(pod), probeBinary, "cast", castGroup, "from-"+pod)
	}
	// As in wantCast; a pod that nothing may enter is entered by its own node alone.
	for _, ways := range [][]string{{"node1", "red/a", "red/c"}, {"node2", "red/a", "red/c"}, {"node1", "red/b"}, {"node2", "red/d"}} {
		var echoes []string
		for _, pod := range ways[1:] {
			echoes = append(echoes, "icmp "+c.podIP(pod)+" 56")
		}
		wantAll(t, onNode(ways[0]), c.check(onNode(ways[0]), echoes...))
	}
	for _, pod := range pods {
		var want []heard
		for _, from := range pods {
			if from == pod || slices.Contains(senders, from) {
				want = append(want, heard{c.podIP(from), "from-" + from})
			}
		}
		got := ears[pod].heard(t)
		slices.SortFunc(got, func(a, b heard) int { return strings.Compare(a.Text, b.Text) })
		if !slices.Equal(got, want) {
			t.Errorf("%s heard %v, want %v", pod, got, want)
		}
	}
}
