package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// letIn lets in to a/two who has a label, and nobody else.
const letIn = `
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata: {namespace: a, name: two}
spec:
  podSelector: {matchLabels: {app: two}}
  ingress: [{from: [{podSelector: {matchLabels: {app: ROLE}}}]}]
`

// noticed is how long agents may take to see that the store is another one: they believe
// answers that are older than what they know after a minute.
const noticed = 3 * time.Minute

// TestOnKubernetesAStoreThatIsLostIsMissedByNoPacket loses everything that the services have
// stored, under traffic that a policy lets in by labels. From the objects everything comes
// back as it was, and from the agents which pods there are.
func TestOnKubernetesAStoreThatIsLostIsMissedByNoPacket(t *testing.T) {
	k := upOnKubernetesOf(t, strings.Replace(theNetwork, "multitenant", "networkpolicy", 1), 2, "{nats: 1}")
	begun := time.Now()
	k.kubectl("create", "namespace", "a")
	vnid, subnets := k.netid("a"), k.kubectl("get", "hostsubnets", "-o", "jsonpath={.items[*].subnet}")
	k.api.Apply(t, strings.Replace(letIn, "ROLE", "one", 1))
	for pod, node := range map[string]string{"one": "node1", "two": "node2", "three": "node1"} {
		k.aPod("a/"+pod, node, "app: "+pod)
	}
	k.becomes(time.Now(), "the policy is in force", "a/one", "a/two", true)
	k.start(inPod("a/two"), "reply", "9000")
	load := k.start(inPod("a/one"), "flow", k.podIP("a/two")+":9000", pace())

	// Services say every five seconds which store they have: an agent that has not heard it
	// cannot see that it is another one.
	k.eventually(t, "agents know the store", func() bool { return time.Since(begun) > 6*time.Second })
	all := []string{"egress", "servicelb", "tenancy", "ipam", "nats"}
	for _, service := range all {
		k.run("lab", "kill", "--name", k.name, service)
	}
	if err := os.RemoveAll(filepath.Join("/var/lib/damask-lab", k.name, "stores")); err != nil {
		t.Fatal(err)
	}
	begin := time.Now()
	for i := range all {
		k.run("lab", "start", "--name", k.name, all[len(all)-1-i])
	}
	t.Logf("all services run with an empty store after %s", since(begin))
	for _, pod := range []string{"one", "two", "three"} {
		k.eventuallyWithin(t, noticed, "the new store has pod "+pod+" by its agent", func() bool {
			for line := range strings.Lines(k.ctl("get", "pods", "-o", "wide")) {
				if fields := strings.Fields(line); len(fields) > 1 && fields[1] == pod {
					return !strings.Contains(line, " - ")
				}
			}
			return false
		})
	}
	t.Logf("and the pods of all agents after %s", since(begin))
	if again := k.netid("a"); again != vnid {
		t.Errorf("namespace a has VNID %d, and had %d", again, vnid)
	}
	if again := k.kubectl("get", "hostsubnets", "-o", "jsonpath={.items[*].subnet}"); again != subnets {
		t.Errorf("the nodes have %s, and had %s", again, subnets)
	}
	seen := readTraffic(t, load)
	t.Logf("%+v", seen)
	if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.Refused != 0 {
		t.Errorf("traffic suffered: %+v", seen)
	}
	// What changes now is heard of: of policies, and of who they select.
	k.eventuallyWithin(t, noticed, "agents hear of what is stored now", func() bool {
		k.api.Apply(t, strings.Replace(letIn, "ROLE", "three", 1))
		return k.reached("a/three", "a/two", quietFor)
	})
	k.api.Apply(t, strings.Replace(letIn, "ROLE", "one", 1))
	k.becomes(time.Now(), "who is not let in any more", "a/three", "a/two", false)
	if !k.reached("a/one", "a/two", mayTake) {
		t.Error("who is let in again is not answered")
	}
}
