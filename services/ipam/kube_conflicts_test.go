package ipam_test

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

// refusedFor waits until a HostSubnet is refused for a reason, in its condition.
func (k *kubernetes) refusedFor(node, why string) {
	k.Helper()
	const path = `jsonpath={.status.conditions[?(@.type=="Accepted")].status}: {.status.conditions[?(@.type=="Accepted")].message}`
	got := ""
	for until := time.Now().Add(40 * time.Second); time.Now().Before(until); time.Sleep(50 * time.Millisecond) {
		var err error
		if got, err = k.TryKubectl("get", "hostsubnet", node, "-o", path); err == nil && strings.HasPrefix(got, "False: ") && strings.Contains(got, why) {
			return
		}
	}
	k.Fatalf("%s is %q, want it refused since %q", node, got, why)
}

// byHand makes a HostSubnet as a person does.
func (k *kubernetes) byHand(node, ip, subnet string) {
	k.Helper()
	k.Apply(k.T, fmt.Sprintf("{apiVersion: network.openshift.io/v1, kind: HostSubnet, metadata: {name: %s}, host: %s, hostIP: %s, subnet: %s}", node, node, ip, subnet))
}

// TestOnKubernetesConflictsAreSaidAndEnd has HostSubnets that cannot be beside others: each
// says why, and is accepted by itself when the other is gone.
func TestOnKubernetesConflictsAreSaidAndEnd(t *testing.T) {
	k := newKubernetes(t)
	start(t, k.cfg)
	k.Apply(t, network)
	k.wait("clusternetwork/default", "condition=Accepted")
	for name, ip := range map[string]string{"subnet-has": "192.0.2.1", "ip-has": "192.0.2.2"} {
		k.node(name, ip)
		k.subnet(name)
	}
	taken := k.subnet("subnet-has")
	k.byHand("subnet-wants", "192.0.2.11", taken)
	k.refusedFor("subnet-wants", taken)
	k.byHand("ip-wants", "192.0.2.2", "10.130.0.0/23")
	k.refusedFor("ip-wants", "192.0.2.2")
	k.byHand("outside", "192.0.2.13", "10.200.0.0/23")
	k.refusedFor("outside", "10.200.0.0/23")
	k.byHand("wrong", "192.0.2.14", "10.130.0.1/23")
	k.refusedFor("wrong", "subnet: ")

	k.Kubectl(t, "delete", "node", "subnet-has", "ip-has")
	k.wait("hostsubnet/subnet-wants", "condition=Accepted")
	k.wait("hostsubnet/ip-wants", "condition=Accepted")
	k.byHand("outside", "192.0.2.13", "10.130.2.0/23")
	k.byHand("wrong", "192.0.2.14", "10.130.4.0/23")
	for node, want := range map[string]string{"subnet-wants": taken, "ip-wants": "10.130.0.0/23", "outside": "10.130.2.0/23", "wrong": "10.130.4.0/23"} {
		if got := k.subnet(node); got != want {
			t.Errorf("%s has %s, want %s", node, got, want)
		}
	}
	// A Node that gets no subnet has no object to say so on: an Event tells.
	k.node("again", "192.0.2.2")
	for until := time.Now().Add(40 * time.Second); ; time.Sleep(100 * time.Millisecond) {
		events := k.Kubectl(t, "get", "events", "-A", "-o", `jsonpath={range .items[*]}{.involvedObject.kind}/{.involvedObject.name}: {.message}{"\n"}{end}`)
		if strings.Contains(events, "Node/again: ") && strings.Contains(events, "192.0.2.2") {
			break
		}
		if time.Now().After(until) {
			t.Fatalf("no event of the Node tells of it:\n%s", events)
		}
	}
}
