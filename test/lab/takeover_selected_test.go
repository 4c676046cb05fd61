package lab

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/damask-sdn/damask/test/ancestor"
)

// selecting lets in to shop/web by labels alone: pods of its namespace with one, and all those of
// namespaces with another. What shop/caller may send to is selected too, by a port's name.
const selecting = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: web}
spec:
  podSelector: {matchLabels: {app: web}}
  ingress: [{from: [{podSelector: {matchLabels: {app: client}}}, {namespaceSelector: {matchLabels: {team: friends}}}]}]
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: shop, name: caller}
spec:
  podSelector: {matchLabels: {app: caller}}
  policyTypes: [Egress]
  egress:
  - {to: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: web}]}
  - {to: [{podSelector: {matchLabels: {app: client}}}], ports: [{port: 9000}, {port: 9000, protocol: UDP}]}
`

// TestOnKubernetesPoliciesSelectPodsOfTheAncestorsNodes has pods on a node of OpenShift SDN's that a
// policy on a node of Damask's lets in by labels, and one that it does not: before the node is
// taken over, meanwhile, and after that. What is let in must not lose a packet.
func TestOnKubernetesPoliciesSelectPodsOfTheAncestorsNodes(t *testing.T) {
	k := upOnKubernetesOf(t, strings.Replace(theNetwork, "multitenant", "networkpolicy", 1), 2, "{nats: 1, tenancy: 2}", "node1")
	f := former{ancestor.NetworkPolicy, map[string]int{"default": 0}, nil, nil}
	for _, namespace := range []string{"shop", "friends"} {
		k.kubectl("create", "namespace", namespace)
		f.vnids[namespace] = k.netid(namespace)
	}
	k.kubectl("label", "namespace", "friends", "team=friends")
	k.api.Apply(t, selecting)
	agent := k.becomeAncestor("node1", f)
	k.aPod("shop/web", "node2", "app: web")
	k.aPod("shop/caller", "node2", "app: caller")
	for name, label := range map[string]string{"shop/client": "client", "friends/a": "other", "shop/other": "other"} {
		k.aPod(name, "node1", "app: "+label)
	}
	k.wantSelected("before")
	for _, pod := range []string{"shop/web", "shop/client"} {
		k.start(inPod(pod), "reply", replies)
	}
	k.start(inPod("shop/web"), "serve", "9100", "shop/web")
	var asking []*background
	for _, protocol := range []string{"tcp", "udp"} {
		asking = append(asking, k.start(inPod("shop/other"), "load", protocol, k.pods["shop/web"].ip+":9100", "rate", "1"))
	}
	k.takeOver(t, "node1", agent, []trip{
		{inPod("shop/client"), k.pods["shop/web"].ip + ":" + replies}, {inPod("friends/a"), k.pods["shop/web"].ip + ":" + replies},
		{inPod("shop/caller"), k.pods["shop/client"].ip + ":" + replies},
	})
	for _, b := range asking {
		if seen := readShares(t, b.end(t)); len(seen.Answers) != 0 || len(seen.Errors) == 0 {
			t.Errorf("a pod with other labels was answered while its node was taken over: %+v", seen)
		}
	}
	k.wantSelected("after")
	k.eventually(t, "the registry has sandboxes of all pods", func() bool {
		lines := strings.Split(strings.TrimSpace(k.ctl("get", "pods", "-o", "wide")), "\n")
		return len(lines) == 1+len(k.pods) && !slices.ContainsFunc(lines, func(line string) bool { return strings.Contains(line, " - ") })
	})
}

// wantSelected waits until pods are let in that policies select, and looks for one that is not.
func (k *onKubernetes) wantSelected(when string) {
	k.t.Helper()
	begin := time.Now()
	k.becomes(begin, when+": by its labels", "shop/client", "shop/web", true)
	k.becomes(begin, when+": by those of its namespace", "friends/a", "shop/web", true)
	k.becomes(begin, when+": to a port by its name", "shop/caller", "shop/client", true)
	for from, to := range map[string]string{"shop/other": "shop/web", "shop/caller": "shop/other"} {
		if k.reached(from, to, quietFor) {
			k.t.Errorf("%s: %s reaches %s", when, from, to)
		}
	}
	if who := k.answered("shop/caller", fmt.Sprintf("%s:%d", k.pods["shop/client"].ip, 8081), quietFor); who != "" {
		k.t.Errorf("%s: another port than that of the name is answered by %s", when, who)
	}
}
