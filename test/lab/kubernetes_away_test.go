package lab

import (
	"strings"
	"testing"
	"time"
)

func TestOnKubernetesAnAPIServerThatIsAwayIsMissedByNobody(t *testing.T) {
	k := upOnKubernetes(t, 2, "{nats: 3, ipam: 2, tenancy: 2, servicelb: 2, egress: 2}")
	k.kubectl("create", "namespace", "a")
	k.netid("a")
	k.aPod("a/one", "node1")
	k.aPod("a/two", "node2")
	k.aPod("a/brief", "node1")
	k.becomes(time.Now(), "one and two", "a/one", "a/two", true)
	k.start(inPod("a/one"), "reply", "9000")
	load := k.start(inPod("a/two"), "flow", k.podIP("a/one")+":9000", pace())

	begin := time.Now()
	k.api.StopServer()
	t.Run("pods get new sandboxes", func(t *testing.T) {
		k := k.in(t)
		before := k.pods["a/brief"].ip
		if err := k.nodes["node1"].renew(named("a/brief")); err != nil {
			t.Fatal(err)
		}
		k.cluster.lab = nil // It has another address.
		ip := k.podIP("a/brief")
		k.pods["a/brief"] = k.reside(inPod("a/brief"), "a/brief", ip)
		if !k.reached("a/two", "a/brief", mayTake) {
			t.Errorf("nobody answers at %s, before at %s", ip, before)
		}
	})
	t.Run("a namespace that nobody has heard of is refused with the reason", func(t *testing.T) {
		out, err := k.try("lab", "pod", "add", "--name", k.name, "unheard/of", "--node", "node1", "--uid", "1")
		if err == nil || !strings.Contains(out, "unheard") {
			t.Errorf("answered %v:\n%s", err, out)
		}
		t.Log(out)
	})
	t.Run("agents and services start again", func(t *testing.T) {
		watch := k.watchFlows("node1")
		k.run("lab", "kill", "--name", k.name, "node1", "nodeagent")
		k.run("lab", "start", "--name", k.name, "node1", "nodeagent")
		// One replica of each starts without the API server, the other goes on without it.
		for _, service := range []string{"ipam", "tenancy", "servicelb", "egress"} {
			k.run("lab", "kill", "--name", k.name, service, service+"-1")
			k.run("lab", "start", "--name", k.name, service)
		}
		if events := watch.stop(); events != "" {
			t.Errorf("flows were changed:\n%s", events)
		}
	})
	t.Logf("the API server was away for %s", since(begin))

	begin = time.Now()
	k.api.StartServer(t)
	t.Logf("the API server was back %s after it began to start", since(begin))
	k.wait("a", "pod/brief", "jsonpath={.status.podIP}="+k.pods["a/brief"].ip)
	begin = time.Now()
	k.kubectl("create", "namespace", "b")
	k.netid("b")
	t.Logf("a new namespace has its VNID %s after kubectl create began", since(begin))
	k.aPod("b/one", "node1")
	k.aPod("b/two", "node2")
	k.becomes(begin, "from a new namespace to a packet", "b/one", "b/two", true)
	if k.reached("b/one", "a/two", quietFor) {
		t.Error("tenants reach one another")
	}
	seen := readTraffic(t, load)
	t.Logf("%+v", seen)
	if seen.StreamError != "" || seen.StreamReturned != seen.StreamSent || seen.Refused != 0 {
		t.Errorf("traffic suffered: %+v", seen)
	}
}
